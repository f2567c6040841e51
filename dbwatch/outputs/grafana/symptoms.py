"""Alerts on what users feel, and on what they are about to feel: these page."""

from dbwatch.outputs.grafana.alert import Alert
from dbwatch.outputs.grafana.links import POOL_UID
from dbwatch.outputs.grafana.promql import POOL_LABELS, increase, rate, sum_by
from dbwatch.outputs.grafana.recording import CHECKOUTS, NEEDED, bad_share
from dbwatch.outputs.grafana.thresholds import RuleOptions

WHERE = "Pool {{ $labels.pool }} of {{ $labels.job }} on {{ $labels.instance }}"
POOL = "Pool {{ $labels.pool }} of {{ $labels.job }}"
#: Burn rates of the usual multi-window alerts: 2 % of a 30-day budget in an hour, 5 % in six hours.
FAST_BURN, SLOW_BURN = 14.4, 6


def symptoms(options: RuleOptions) -> list[Alert]:
    """The alerts, worst first."""
    return [
        _timeouts_high(options),
        _timeouts(options),
        _connect_failures(options),
        _oldest_waiter_near_timeout(options),
        _exhaustion_predicted(options),
        _leak_consuming_pool(options),
        _burn(options, "Fast", "1h", "5m", FAST_BURN, hold="2m"),
        _burn(options, "Slow", "6h", "30m", SLOW_BURN, hold="15m"),
        _exhausted(options),
    ]


def _timeouts_high(options: RuleOptions) -> Alert:
    timeouts = options.series("dbwatch_checkout_timeouts_total")
    share = options.thresholds.timeout_share
    return Alert(
        "DBPoolCheckoutTimeoutsHigh",
        "critical",
        f"{rate(timeouts, '5m')} / ({CHECKOUTS} > 0) > {share:g}\nand\n{increase(timeouts, '5m')} >= 5",
        "Requests are failing because no database connection is available.",
        f"{WHERE}: {{{{ $value | humanizePercentage }}}} of checkouts timed out in the last 5 minutes.",
        POOL_LABELS,
        hold="2m",
        keep="5m",
    )


def _timeouts(options: RuleOptions) -> Alert:
    timeouts = options.series("dbwatch_checkout_timeouts_total")
    return Alert(
        "DBPoolCheckoutTimeouts",
        "warning",
        f"{increase(timeouts, '15m')} > 0",
        "A request failed because no database connection was available.",
        f'{WHERE}: checkouts timed out in the last 15 minutes: {{{{ $value | printf "%.0f" }}}}.',
        POOL_LABELS,
        keep="15m",
    )


def _connect_failures(options: RuleOptions) -> Alert:
    errors = options.series("dbwatch_connect_errors_total")
    opened = rate(options.series("dbwatch_connections_opened_total"), "5m")
    failed = rate(errors, "5m")
    share = options.thresholds.connect_failure_share
    return Alert(
        "DBPoolConnectFailures",
        "critical",
        # A database that was down from the start may have opened nothing: no series is no success.
        f"{failed}\n/\n({failed} + ({opened} or 0 * {failed})) > {share:g}\nand\n{increase(errors, '5m')} >= 3",
        "New connections to the database cannot be opened.",
        f"{WHERE}: {{{{ $value | humanizePercentage }}}} of the attempts to open a connection failed "
        "in the last 5 minutes.",
        POOL_LABELS,
        hold="2m",
        keep="5m",
        dashboard=POOL_UID,
    )


def _oldest_waiter_near_timeout(options: RuleOptions) -> Alert:
    waiter = options.series("dbwatch_pool_oldest_waiter_seconds")
    timeout = options.series("dbwatch_pool_timeout_seconds")
    share = options.thresholds.oldest_waiter_share
    return Alert(
        "DBPoolOldestWaiterNearTimeout",
        "critical",
        f"{waiter} > {share:g} * ({timeout} > 0)",
        "Requests waiting for a database connection are about to fail.",
        f"{WHERE}: the oldest waiter has been waiting for {{{{ $value | humanizeDuration }}}}, "
        f"more than {share:.0%} of the pool timeout.",
        POOL_LABELS,
        hold="30s",
        keep="2m",
        dashboard=POOL_UID,
    )


def _exhaustion_predicted(options: RuleOptions) -> Alert:
    limit, leaked = options.series("dbwatch_pool_limit"), options.series("dbwatch_pool_leaked_connections")
    within = options.thresholds.exhaustion_seconds
    # What is left besides leaked connections and those that requests need, over the leaks per second.
    left = f"clamp_min({limit} - {leaked} - ({NEEDED} or 0 * {leaked}), 0)"
    return Alert(
        "DBPoolExhaustionPredicted",
        "critical",
        f"{left}\n/\n(deriv({leaked}[15m]) > 0) < {within:g}\nand\n{leaked} >= 2",
        "Leaking connections will soon have used up the pool.",
        f"{WHERE}: at the present rate of leaks no connection is left in {{{{ $value | humanizeDuration }}}}.",
        POOL_LABELS,
        hold="30s",
        keep="5m",
        dashboard=POOL_UID,
    )


def _leak_consuming_pool(options: RuleOptions) -> Alert:
    limit, leaked = options.series("dbwatch_pool_limit"), options.series("dbwatch_pool_leaked_connections")
    share = options.thresholds.leaked_share
    return Alert(
        "DBPoolLeakConsumingPool",
        "critical",
        f"{leaked} / ({limit} > 0) > {share:g}",
        "Leaked connections hold most of the pool.",
        f"{WHERE}: {{{{ $value | humanizePercentage }}}} of its limit is held by connections whose request has ended.",
        POOL_LABELS,
        hold="5m",
        keep="5m",
        dashboard=POOL_UID,
    )


def _burn(options: RuleOptions, speed: str, long: str, short: str, factor: float, *, hold: str) -> Alert:
    budget, minimum = options.thresholds.error_budget, options.thresholds.burn_minimum
    every = sum_by(options.by_job, increase(options.series("dbwatch_checkout_seconds_count"), long))
    limit = f"({factor:g} * {budget:g})"
    return Alert(
        f"DBPoolWaitBudgetBurn{speed}",
        "critical" if speed == "Fast" else "warning",
        f"{bad_share(long)} > {limit}\nand\n{bad_share(short)} > {limit}\n"
        f"and\n{bad_share(long)} * {every} >= {minimum:g}",
        "Too many requests wait too long for a database connection."
        if speed == "Fast"
        else "Requests have been waiting too long for a database connection for hours.",
        f"{POOL}: {{{{ $value | humanizePercentage }}}} of checkouts in the last {long} were slower than "
        f"{options.thresholds.slo_seconds * 1000:g} ms or failed; the objective allows {budget:.2%}.",
        options.by_job,
        hold=hold,
    )


def _exhausted(options: RuleOptions) -> Alert:
    waiter = options.series("dbwatch_pool_oldest_waiter_seconds")
    waiters = options.series("dbwatch_pool_waiters")
    # Not "used = limit": with several workers behind one target those are sums, and hide the one worker that is full.
    return Alert(
        "DBPoolExhausted",
        "warning",
        f"{waiter} > {options.thresholds.exhausted_wait_seconds:g}\nand\n{waiters} > 0",
        "The pool has no free connection and its queue does not move.",
        f"{WHERE}: the oldest waiter has been waiting for {{{{ $value | humanizeDuration }}}}.",
        POOL_LABELS,
        hold="3m",
        dashboard=POOL_UID,
    )
