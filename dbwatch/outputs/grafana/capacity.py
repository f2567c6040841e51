"""Alerts on capacity, and on dbwatch itself."""

from dbwatch.outputs.grafana.alert import Alert
from dbwatch.outputs.grafana.links import POOL_UID
from dbwatch.outputs.grafana.promql import POOL_LABELS, events, increase, max_by
from dbwatch.outputs.grafana.recording import UTILIZATION
from dbwatch.outputs.grafana.symptoms import POOL, WHERE
from dbwatch.outputs.grafana.thresholds import RuleOptions


def capacity(options: RuleOptions) -> list[Alert]:
    """Pools too small, too large, or more than the server allows."""
    return [_overflow(options), _utilization(options), _fleet(options), _service(options), _oversized(options)]


def itself(options: RuleOptions) -> list[Alert]:
    """Dbwatch gone, in error, or folding labels."""
    return [_absent(options), _internal_errors(options), _labels_folded(options)]


def _overflow(options: RuleOptions) -> Alert:
    return Alert(
        "DBPoolOverflowSustained",
        "warning",
        f"{options.series('dbwatch_pool_overflow_connections')} > 0",
        "The pool lives on its overflow.",
        f"{WHERE}: more than pool_size connections have been out all the time, {{{{ $value }}}} of them now.",
        POOL_LABELS,
        hold="20m",
        dashboard=POOL_UID,
    )


def _utilization(options: RuleOptions) -> Alert:
    return Alert(
        "DBPoolUtilizationHigh",
        "info",
        f"{UTILIZATION} > {options.thresholds.utilization_share:g}",
        "Most of the pool is in use all the time.",
        f"{WHERE}: {{{{ $value | humanizePercentage }}}} of the limit is in use.",
        POOL_LABELS,
        hold="30m",
        dashboard=POOL_UID,
    )


def _with_server(options: RuleOptions, series: str) -> str:
    pool = ", ".join(POOL_LABELS)
    # topk keeps one where two engines share a name, which would make the join ambiguous.
    info = f"topk by ({pool}) (1, {options.series('dbwatch_pool_info')})"
    return f"{options.series(series)} * on ({pool}) group_left (server) {info}"


def _fleet(options: RuleOptions) -> Alert:
    limits = f"sum by (server) ({_with_server(options, 'dbwatch_pool_limit')})"
    return Alert(
        "DBPoolFleetCanExceedDatabase",
        "warning",
        f"{limits}\n> on (server)\n"
        "max by (server) (pg_settings_max_connections - pg_settings_superuser_reserved_connections)",
        "All instances together may open more connections than the database allows.",
        "Server {{ $labels.server }}: the limits of all pools add up to {{ $value }}, more than it allows.",
        ("server",),
        hold="10m",
        dashboard=POOL_UID,
    )


def _service(options: RuleOptions) -> Alert:
    labels = (*options.group_by, "job", "server")
    return Alert(
        "DBPoolServiceCanExceedDatabase",
        "warning",
        f"sum by ({', '.join(labels)}) ({_with_server(options, 'dbwatch_pool_server_share_ratio')}) > 1",
        "All instances of a service together may open more connections than its database allows.",
        "{{ $labels.job }} on server {{ $labels.server }}: the limits of its pools add up to "
        "{{ $value | humanizePercentage }} of what the server allows.",
        labels,
        hold="10m",
        dashboard=POOL_UID,
    )


def _oversized(options: RuleOptions) -> Alert:
    limit = max_by(options.by_job, options.series("dbwatch_pool_limit"))
    peak = max_by(options.by_job, f"max_over_time({options.series('dbwatch_pool_used_peak_connections')}[7d])")
    a_week_ago = max_by(options.by_job, f"{options.series('dbwatch_pool_limit')} offset 7d")
    return Alert(
        "DBPoolOversized",
        "info",
        # Without a week of history there is no verdict; an unlimited pool has no size to judge.
        f"{peak} / ({limit} < +Inf > 5) < {options.thresholds.oversized_share:g}\nand\n{a_week_ago}",
        "The pool is much larger than it needs to be.",
        f"{POOL}: the peak of the last week was {{{{ $value | humanizePercentage }}}} of the limit.",
        options.by_job,
        hold="1h",
        dashboard=POOL_UID,
    )


def _absent(options: RuleOptions) -> Alert:
    by = ", ".join((*options.group_by, "job"))
    build_info = options.series("dbwatch_build_info")
    gone = f"count by ({by}) (present_over_time({build_info}[6h])) unless count by ({by}) ({build_info})"
    # A job that is named in the options is missed even if it was never seen.
    named = f"{options.selector}," if options.selector else ""
    never = [f'absent(dbwatch_build_info{{{named}job="{job}"}})' for job in options.jobs]
    return Alert(
        "DBWatchAbsent",
        "warning",
        "\nor on (job)\n".join([gone, *never]),
        "No instance of a job reports its connection pools any more.",
        "{{ $labels.job }}: no dbwatch metrics; none of the other alerts can fire for it.",
        ("job",),
        hold="10m",
    )


def _internal_errors(options: RuleOptions) -> Alert:
    errors = options.series("dbwatch_internal_errors_total")
    return Alert(
        "DBWatchInternalErrors",
        "info",
        f"{events(errors, '15m')} > 0",
        "dbwatch failed inside; the application was not affected.",
        "{{ $labels.job }} on {{ $labels.instance }}: "
        'errors at {{ $labels.site }} in the last 15 minutes: {{ $value | printf "%.0f" }}.',
        ("job", "instance", "site"),
    )


def _labels_folded(options: RuleOptions) -> Alert:
    return Alert(
        "DBWatchLabelsFolded",
        "info",
        f"{increase(options.series('dbwatch_label_overflow_total'), '1h')} > 0",
        "There are more pools or routes than dbwatch keeps apart.",
        "{{ $labels.job }} on {{ $labels.instance }}: new values of the label {{ $labels.label }} are counted as "
        "(other).",
        ("job", "instance", "label"),
    )
