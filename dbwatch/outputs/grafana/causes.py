"""Alerts on causes: leaks, long or idle holds, churn, dead connections, a blocked event loop, proven mistakes."""

from dbwatch.outputs.grafana.alert import Alert
from dbwatch.outputs.grafana.links import POOL_UID, ROUTES_UID
from dbwatch.outputs.grafana.promql import POOL_LABELS, TARGET_LABELS, events, increase, rate, sum_by
from dbwatch.outputs.grafana.recording import CHECKOUTS, IDLE_SHARE, P95
from dbwatch.outputs.grafana.symptoms import POOL, WHERE
from dbwatch.outputs.grafana.thresholds import RuleOptions


def causes(options: RuleOptions) -> list[Alert]:
    """The alerts, those that hurt soonest first."""
    return [
        _leak_detected(options),
        _event_loop_blocked(options),
        _checkout_slow(options),
        _held_too_long(options),
        _held_while_idle(options),
        _pre_ping_failures(options),
        _churn(options),
        _finding(options),
    ]


def _leak_detected(options: RuleOptions) -> Alert:
    return Alert(
        "DBPoolLeakDetected",
        "warning",
        f"{increase(options.series('dbwatch_leaks_total'), '15m')} > 0",
        "Requests ended without giving their database connection back.",
        f'{WHERE}: leaks of kind {{{{ $labels.kind }}}} in the last 15 minutes: {{{{ $value | printf "%.0f" }}}}.',
        (*POOL_LABELS, "kind"),
        keep="30m",
        dashboard=ROUTES_UID,
    )


def _event_loop_blocked(options: RuleOptions) -> Alert:
    blocked = rate(options.series("dbwatch_event_loop_blocked_seconds_total"), "5m")
    return Alert(
        "DBPoolEventLoopBlocked",
        "warning",
        f"sum without (method, route) ({blocked}) > {options.thresholds.loop_blocked_share:g}",
        "A synchronous engine holds up the event loop.",
        "{{ $labels.job }} on {{ $labels.instance }}: the event loop was blocked {{ $value | humanizePercentage }} "
        "of the time in the last 5 minutes.",
        TARGET_LABELS,
        hold="10m",
        dashboard=ROUTES_UID,
    )


def _checkout_slow(options: RuleOptions) -> Alert:
    return Alert(
        "DBPoolCheckoutSlow",
        "warning",
        f"{P95} > {options.thresholds.checkout_p95_seconds:g}\nand\n{CHECKOUTS} > 0.2",
        "Getting a database connection takes long.",
        f"{WHERE}: 5 % of checkouts take longer than {{{{ $value | humanizeDuration }}}}.",
        POOL_LABELS,
        hold="10m",
        dashboard=POOL_UID,
    )


def _held_too_long(options: RuleOptions) -> Alert:
    oldest = options.series("dbwatch_pool_oldest_checkout_seconds")
    return Alert(
        "DBPoolConnectionHeldTooLong",
        "warning",
        f"{oldest} > {options.thresholds.held_seconds:g}",
        "A connection has been checked out for very long.",
        f"{WHERE}: one connection has been out for {{{{ $value | humanizeDuration }}}}.",
        POOL_LABELS,
        hold="5m",
        dashboard=POOL_UID,
    )


def _held_while_idle(options: RuleOptions) -> Alert:
    return Alert(
        "DBPoolHeldWhileIdle",
        "warning",
        f"{IDLE_SHARE} > {options.thresholds.idle_share:g}\n"
        f"and\n{P95} > {options.thresholds.checkout_p95_seconds / 2:g}",
        "Connections are held while no SQL runs, and others wait for them.",
        f"{WHERE}: {{{{ $value | humanizePercentage }}}} of the time connections are held no statement runs.",
        POOL_LABELS,
        hold="15m",
        dashboard=ROUTES_UID,
    )


def _pre_ping_failures(options: RuleOptions) -> Alert:
    failures = options.series("dbwatch_pre_ping_failures_total")
    return Alert(
        "DBPoolPrePingFailures",
        "warning",
        f"{increase(failures, '10m')} > {options.thresholds.pre_ping_failures:g}",
        "Connections die while they are idle in the pool.",
        f'{WHERE}: connections that failed their pre-ping in the last 10 minutes: {{{{ $value | printf "%.0f" }}}}.',
        POOL_LABELS,
        hold="5m",
        dashboard=POOL_UID,
    )


def _churn(options: RuleOptions) -> Alert:
    opened = rate(options.series("dbwatch_connections_opened_total"), "15m")
    checkouts = rate(options.series("dbwatch_checkout_seconds_count", outcome="ok"), "15m")
    unpooled = options.series("dbwatch_pool_info", pool_class="NullPool")
    return Alert(
        "DBPoolConnectionChurn",
        "warning",
        f"{opened} / (sum without (outcome) ({checkouts}) > 0) > {options.thresholds.churn_share:g}\n"
        # NullPool opens one for each checkout on purpose.
        f"and\n{opened} > 0.1\nunless on ({', '.join(POOL_LABELS)})\n{unpooled}",
        "Requests keep opening new database connections.",
        f"{WHERE}: {{{{ $value | humanizePercentage }}}} of checkouts opened a new connection in the last 15 minutes.",
        POOL_LABELS,
        hold="15m",
        dashboard=POOL_UID,
    )


def _finding(options: RuleOptions) -> Alert:
    labels = (*options.by_job, "finding")
    found = events(options.series("dbwatch_findings_total"), "15m")
    return Alert(
        "DBPoolFinding",
        "info",
        f"{sum_by(labels, found)} > 0",
        "dbwatch has proven a mistake in how the application uses its connections.",
        f'{POOL}: {{{{ $labels.finding }}}} in the last 15 minutes: {{{{ $value | printf "%.0f" }}}}.',
        labels,
        dashboard=ROUTES_UID,
    )
