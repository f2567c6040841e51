"""The verdict row of the overview."""

from dbwatch.outputs.grafana.expressions import (
    BLOCKED,
    CHECKOUTS,
    FAILED,
    FAST,
    FINDINGS,
    LEAKED,
    OLDEST_WAITER,
    P95_BY_INSTANCE,
    USED_SHARE,
    WAIT_SHARE,
    WAITERS,
)
from dbwatch.outputs.grafana.frame import ALERT_NAMES, selected
from dbwatch.outputs.grafana.layout import Section
from dbwatch.outputs.grafana.panels import GREEN, ORANGE, PURPLE, RED, YELLOW, Query, single_value, thresholds
from dbwatch.outputs.grafana.promql import increase, rate, sum_by


def verdict() -> Section:
    """Twelve numbers that say at a glance whether to read on."""
    failing = f"(sum({increase(FAILED)}) > bool 0)"
    degraded = f"clamp_max((sum({LEAKED}) > bool 0) + (max({OLDEST_WAITER}) > bool 1), 1)"
    return Section(
        "Verdict",
        (
            single_value(
                "State",
                "Good: healthy. Degraded: connections have leaked, or somebody has waited for more than a second. "
                "Failing: checkouts timed out or could not connect. If not healthy, read this row from left to "
                "right, then look at 'Failures by reason'.",
                "none",
                Query(f"clamp_max(2 * {failing} + {degraded}, 2)", "state"),
                thresholds((1, YELLOW), (2, RED)),
                names={0: ("Healthy", GREEN), 1: ("Degraded", ORANGE), 2: ("Failing", RED)},
                no_value="No dbwatch metrics",
            ),
            single_value(
                "Firing alerts",
                "Good: 0. If not, the table 'Alerts firing now' names them and links to their runbooks.",
                "none",
                Query(
                    f'count(ALERTS{{alertname=~"{ALERT_NAMES}",alertstate="firing",severity!="info",'
                    'job=~"$job|",pool=~"$pool|"}) or vector(0)',
                    "alerts",
                ),
                thresholds((1, RED)),
            ),
            single_value(
                "Failed checkouts",
                "Requests that got no connection: timed out in the queue, or the connection could not be opened. "
                "Good: 0. If not, look at 'Failures by reason'.",
                "suffix:/s",
                Query(f"sum({rate(FAILED)})", "failed"),
                thresholds((0.000001, RED)),
                decimals=2,
            ),
            single_value(
                "Checkouts within 100 ms",
                "Good: above 99.9 %. If not, the pool dashboard's 'Where checkout time goes' says whether callers "
                "queue, connect or ping.",
                "percentunit",
                Query(f"sum({rate(FAST)}) / (sum({rate(CHECKOUTS)}) > 0)", "within 100 ms"),
                thresholds((0.99, YELLOW), (0.999, GREEN), base=RED),
                no_value="no traffic",
            ),
            single_value(
                "Worst checkout p95",
                "95 of 100 checkouts were faster, on the instance where that took longest. Good: below 100 ms. If "
                "not, compare instances in 'Pools by instance': one bad instance is a local cause, all of them is "
                "the database or the load.",
                "s",
                Query(f"max({P95_BY_INSTANCE})", "p95"),
                thresholds((0.1, ORANGE), (1, RED)),
                no_value="no traffic",
            ),
            single_value(
                "Oldest wait / timeout",
                "How close the checkout that has waited longest is to its pool_timeout. Good: near 0 %. At 100 % it "
                "fails. If not, look at 'Used share of the limit' and at the pool dashboard.",
                "percentunit",
                Query(f"max({WAIT_SHARE})", "oldest waiter"),
                thresholds((0.1, ORANGE), (0.5, RED)),
            ),
            single_value(
                "Most used pool",
                "Connections checked out as share of the limit, on the fullest instance. Good: anything, as long as "
                "nobody waits; a busy pool is not a broken one. If high and 'Waiting now' is not 0, look at 'Pools "
                "by instance'.",
                "percentunit",
                Query(f"max({USED_SHARE})", "used"),
                thresholds((0.8, YELLOW), (1, ORANGE)),
            ),
            single_value(
                "Waiting now",
                "Checkouts in the queue. Good: 0, or a few that move on. If not, look at 'Waiters and the oldest one'.",
                "short",
                Query(f"sum({WAITERS})", "waiting"),
                thresholds((1, YELLOW), (10, ORANGE)),
            ),
            single_value(
                "Leaked connections",
                "Still out although their request has ended. Good: 0. If not, the routes dashboard's 'Leaks by "
                "route' names the route, the log line of the finding names the code line.",
                "short",
                Query(f"sum({LEAKED})", "leaked"),
                thresholds((1, RED)),
            ),
            single_value(
                "Event loop blocked",
                "Share of the time in which a synchronous engine held up an event loop (summed over the workers of "
                "the instance). Good: 0 %. If not, 'Event loop blocked by route' on the routes dashboard names the "
                "route.",
                "percentunit",
                Query(f"max({sum_by(('job', 'instance'), rate(BLOCKED))}) or vector(0)", "blocked"),
                thresholds((0.01, YELLOW), (0.1, RED)),
            ),
            single_value(
                "Findings so far",
                "Mistakes proven since the processes started. Good: 0. If not, the table 'Findings' names route and "
                "mistake.",
                "short",
                Query(f"sum({FINDINGS}) or vector(0)", "findings"),
                thresholds((1, ORANGE)),
            ),
            single_value(
                "Connections needed",
                "Connections in use on average (Little's law: the rate of hold seconds), all instances together. "
                "Good: well below the sum of the limits. If not, the pool dashboard's 'Connections used and needed' "
                "compares them.",
                "short",
                Query(f"sum({rate(selected('dbwatch_hold_seconds_sum'))})", "needed"),
                thresholds(base=PURPLE),
                decimals=1,
            ),
        ),
    )
