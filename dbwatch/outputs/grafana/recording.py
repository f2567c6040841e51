"""Recording rules: what several alerts need, and windows too long to compute on every look.

``job_pool`` rules are what users feel, all instances of a pool together; ``instance_pool`` rules keep every instance
(and every other label of the target) apart, so that one bad instance is not averaged away.
"""

from dbwatch.outputs.grafana.alert import Recording
from dbwatch.outputs.grafana.promql import rate, sum_by
from dbwatch.outputs.grafana.thresholds import RuleOptions

BURN_WINDOWS = ("5m", "30m", "1h", "6h")
P95 = "instance_pool:dbwatch_checkout_seconds:p95_5m"
CHECKOUTS = "instance_pool:dbwatch_checkouts:rate5m"
UTILIZATION = "instance_pool:dbwatch_pool_utilization:ratio"
NEEDED = "instance_pool:dbwatch_connections_needed:rate5m"
IDLE_SHARE = "instance_pool:dbwatch_hold_idle:ratio_rate5m"


def bad_share(window: str) -> str:
    """The name of the recorded share of bad checkouts over the window."""
    return f"job_pool:dbwatch_checkouts_bad:ratio_rate{window}"


def recordings(options: RuleOptions) -> list[Recording]:
    """All recording rules."""
    series = options.series
    used = series("dbwatch_pool_connections", state="used")
    activity = series("dbwatch_hold_activity_seconds_total")
    idle = series("dbwatch_hold_activity_seconds_total", activity="idle")
    checkouts = series("dbwatch_checkout_seconds_count")
    buckets = series("dbwatch_checkout_seconds_bucket")
    return [
        *(Recording(bad_share(window), _bad_share(options, window)) for window in BURN_WINDOWS),
        Recording(P95, f"histogram_quantile(0.95, sum without (outcome) ({rate(buckets, '5m')}))"),
        Recording(CHECKOUTS, f"sum without (outcome) ({rate(checkouts, '5m')})"),
        # An unlimited pool has the limit +Inf: its utilization is 0.
        Recording(UTILIZATION, f"sum without (state) ({used})\n/\n({series('dbwatch_pool_limit')} > 0)"),
        Recording(NEEDED, rate(series("dbwatch_hold_seconds_sum"), "5m")),
        Recording(
            IDLE_SHARE,
            f"sum without (activity) ({rate(idle, '5m')})\n/\n(sum without (activity) ({rate(activity, '5m')}) > 0)",
        ),
    ]


def _bad_share(options: RuleOptions, window: str) -> str:
    """Share of checkouts that were slow, timed out or failed; nothing where there was no checkout."""
    series, by = options.series, options.by_job
    bound = str(float(options.thresholds.slo_seconds))
    fast = sum_by(by, rate(series("dbwatch_checkout_seconds_bucket", outcome=("ok", "cancelled"), le=bound), window))
    every = sum_by(by, rate(series("dbwatch_checkout_seconds_count"), window))
    # Without one good checkout so far there may be no series of good ones: then all are bad.
    return f"1 - (\n  ({fast} or 0 * {every})\n  /\n  ({every} > 0)\n)"
