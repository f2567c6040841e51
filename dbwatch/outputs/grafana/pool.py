"""The pool dashboard: where the wait goes, how many connections are used and needed, leaks, opening and closing."""

from grafana_foundation_sdk.models import dashboard as models

from dbwatch.outputs.grafana import links
from dbwatch.outputs.grafana.frame import DashboardOptions, build, selected
from dbwatch.outputs.grafana.layout import Placed, Section
from dbwatch.outputs.grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    Column,
    Query,
    Style,
    time_series,
    values_table,
)
from dbwatch.outputs.grafana.promql import POOL_LABELS, increase, max_by, min_by, quantile, rate, sum_by

HOLDS = selected("dbwatch_hold_seconds_bucket")
USED = selected("dbwatch_pool_connections", state="used")
IDLE = selected("dbwatch_pool_connections", state="idle")
LIMIT = selected("dbwatch_pool_limit")
OPENED = selected("dbwatch_connections_opened_total")
CHECKOUTS_OK = selected("dbwatch_checkout_seconds_count", outcome="ok")
INFO = selected("dbwatch_pool_info")
PHASE_COLORS = {"wait": ORANGE, "connect": BLUE, "ping": PURPLE}


def pool(options: DashboardOptions) -> models.Dashboard:
    """The dashboard of one pool, or of several side by side."""
    return build(
        links.POOL_UID,
        "dbwatch / Pool",
        "Where checkout time goes, and how many connections are used, needed, leaked, opened and closed.",
        (_wait(), _connections(), _holds(), _leaks(), _churn(), _configuration()),
        options,
    )


def _wait() -> Section:
    phase_seconds = sum_by(("phase",), rate(selected("dbwatch_checkout_phase_seconds_sum")))
    checkouts = f"sum({rate(selected('dbwatch_checkout_seconds_count'))})"
    return Section(
        "Where does the wait go?",
        (
            time_series(
                "Where checkout time goes",
                "Seconds of each checkout spent queueing (wait), opening a connection (connect) and testing one "
                "(ping). Good: close to nothing. If wait dominates, the pool is the bottleneck: see who holds "
                "connections on the routes dashboard. If connect, the server or the network is slow, or the pool "
                "opens too often: see 'Opened and closed, by reason'. If ping, the round trip is slow.",
                "s",
                Query(f"{phase_seconds} / on () group_left () ({checkouts} > 0)", "{{phase}}"),
                colors=PHASE_COLORS,
                stacked=True,
                size=(12, 8),
            ),
            time_series(
                "Phases, p95",
                "Of the checkouts in which the phase happened. Good: wait below 100 ms, connect below what a new "
                "connection costs here, ping about one round trip. If connect is the slow one, look at the database "
                "server first.",
                "s",
                Query(quantile(0.95, selected("dbwatch_checkout_phase_seconds_bucket"), ("phase",)), "{{phase}}"),
                colors=PHASE_COLORS,
                size=(12, 8),
            ),
            time_series(
                "Waiters",
                "Checkouts in the queue, by instance. Good: 0, or a few that move on. If they pile up on one "
                "instance only, compare its holders with the others' before enlarging the pool.",
                "short",
                Query(max_by(POOL_LABELS, selected("dbwatch_pool_waiters")), "{{instance}} {{pool}}"),
                size=(12, 7),
            ),
            time_series(
                "Oldest waiter against the timeout",
                "Good: far below the dashed line, at which the checkout fails. If it climbs in a straight line, "
                "nothing is given back at all: look at 'Leaked connections' and 'Oldest checkout'.",
                "s",
                Query(max_by(POOL_LABELS, selected("dbwatch_pool_oldest_waiter_seconds")), "{{instance}} {{pool}}"),
                Query(
                    min_by(("pool",), selected("dbwatch_pool_timeout_seconds")),
                    "timeout, {{pool}}",
                    Style(RED, dashed=True, fill=0),
                ),
                size=(12, 7),
            ),
        ),
    )


def _connections() -> Section:
    needed = f"sum({rate(selected('dbwatch_hold_seconds_sum'))})"
    return Section(
        "How many connections?",
        (
            time_series(
                "Connections used and needed",
                "Used and idle connections of all instances shown, against pool_size and the limit (an unlimited "
                "pool draws no line). Needed is Little's law: the rate of hold seconds, the connections in use on "
                "average over finished holds. Good: needed below size, peak below the limit. If used stays above "
                "needed, connections are out that nobody finishes: look at 'Leaked connections'. If needed nears the "
                "limit, either the holds are too long (see 'What held connections do') or the pool is too small.",
                "short",
                Query(f"sum({USED})", "used", Style(BLUE)),
                Query(f"sum({IDLE})", "idle", Style(GREEN)),
                Query(needed, "needed (rate * hold)", Style(PURPLE, fill=0, unstacked=True)),
                Query(
                    f"sum({selected('dbwatch_pool_used_peak_connections')})",
                    "peak of two minutes",
                    Style(ORANGE, fill=0, points=True, unstacked=True),
                ),
                Query(
                    f"sum({selected('dbwatch_pool_size')})", "size", Style(GREY, dashed=True, fill=0, unstacked=True)
                ),
                Query(f"sum({LIMIT} < +Inf)", "limit", Style(RED, dashed=True, fill=0, unstacked=True)),
                stacked=True,
                size=(16, 9),
            ),
            time_series(
                "Overflow",
                "Connections out above pool_size now (line), and checkouts that went above it (bars, in the window "
                "behind each point). Good: rare. If it is there all the time, raise pool_size and lower max_overflow "
                "by the same number: overflow connections are closed when they come back.",
                "short",
                Query(
                    sum_by(("pool",), increase(selected("dbwatch_overflow_checkouts_total"))),
                    "overflow checkouts, {{pool}}",
                    Style(dashed=True, fill=0, right_axis_unit="short"),
                ),
                Query(
                    sum_by(("pool",), selected("dbwatch_pool_overflow_connections")),
                    "overflow, {{pool}}",
                    Style(fill=20),
                ),
                size=(8, 9),
            ),
            _size_by_the_load(),
        ),
    )


def _size_by_the_load() -> Placed:
    instance = ", ".join(POOL_LABELS)
    used, leaked, waiters = (
        f"sum by ({instance}) ({series})"
        for series in (USED, selected("dbwatch_pool_leaked_connections"), selected("dbwatch_pool_waiters"))
    )
    peak = f"max_over_time({selected('dbwatch_pool_used_peak_connections')}[1h])"
    return time_series(
        "Size and limit by the load",
        "What dbwatch.advice() advises, from scrapes: pool_size from the 99th percentile of used + waiters over the "
        "last hour, the limit (pool_size + max_overflow) from the peak; of the instance that needs most. Leaked "
        "connections are not needed. Good: below what is configured (dashed). If above, shorten the holds that are "
        "idle first, then raise the pool. The workers behind one instance are added up.",
        "short",
        Query(
            f"ceil(max by (pool) (quantile_over_time(0.99, ({used} - {leaked} + {waiters})[1h:])))",
            "size by the load, {{pool}}",
            Style(BLUE, fill=0),
        ),
        Query(f"max by (pool) ({peak})", "limit by the load, {{pool}}", Style(ORANGE, fill=0)),
        Query(f"max by (pool) ({selected('dbwatch_pool_size')})", "size, {{pool}}", Style(GREY, dashed=True, fill=0)),
        Query(f"max by (pool) ({LIMIT} < +Inf)", "limit, {{pool}}", Style(RED, dashed=True, fill=0)),
        size=(24, 7),
    )


def _holds() -> Section:
    activity = rate(selected("dbwatch_hold_activity_seconds_total"))
    return Section(
        "What do the holders do?",
        (
            time_series(
                "What held connections do",
                "Connections that on average ran a statement, COMMIT or ROLLBACK (executing), did nothing (idle), or "
                "streamed rows or cannot be told (unknown). Good: mostly executing. If idle is the larger part, code "
                "keeps a connection while it does something else: 'Share of hold without a statement' on the routes "
                "dashboard names the route.",
                "short",
                Query(sum_by(("activity",), activity), "{{activity}}"),
                colors={"executing": GREEN, "idle": YELLOW, "unknown": GREY},
                stacked=True,
                size=(12, 8),
            ),
            time_series(
                "Hold",
                "From having a connection to giving it back. Good: milliseconds, and p99 close to p95. If p99 is far "
                "above, a few requests hold very long: 'Hold p95 by route' on the routes dashboard names them.",
                "s",
                Query(quantile(0.5, HOLDS, ()), "p50", Style(GREEN)),
                Query(quantile(0.95, HOLDS, ()), "p95", Style(ORANGE), exemplar=True),
                Query(quantile(0.99, HOLDS, ()), "p99", Style(RED)),
                size=(12, 8),
            ),
            time_series(
                "Oldest checkout",
                "How long the connection that has been out longest has been out, by instance. Good: saw teeth at the "
                "length of a request. If a line climbs and never falls, that connection is not coming back: a leak, "
                "or a job that holds one for good.",
                "s",
                Query(max_by(POOL_LABELS, selected("dbwatch_pool_oldest_checkout_seconds")), "{{instance}} {{pool}}"),
                size=(24, 7),
            ),
        ),
    )


def _leaks() -> Section:
    return Section(
        "Leaks",
        (
            time_series(
                "Leaked connections",
                "Still out although their request has ended, by instance; the dashed line is the smallest limit of "
                "an instance. Good: 0. If the line climbs, divide what is left to the limit by its slope: that is "
                "the time left. 'Leaks by route' names the route.",
                "short",
                Query(max_by(POOL_LABELS, selected("dbwatch_pool_leaked_connections")), "{{instance}} {{pool}}"),
                Query(f"{min_by(('pool',), LIMIT)} < +Inf", "limit, {{pool}}", Style(RED, dashed=True, fill=0)),
                size=(12, 8),
            ),
            time_series(
                "Leaks found and returned",
                "In the window behind each point: request_end were still out when their request had ended, gc were "
                "reclaimed by the garbage collector, returned came back late. Good: empty. If gc, a session is never "
                "closed at all; if request_end, look at the dependency that opens the session.",
                "short",
                Query(sum_by(("kind",), increase(selected("dbwatch_leaks_total"))), "{{kind}}"),
                Query(f"sum({increase(selected('dbwatch_leaks_returned_total'))})", "returned"),
                colors={"request_end": RED, "gc": ORANGE, "returned": GREEN},
                bars=True,
                size=(12, 8),
            ),
        ),
    )


def _churn() -> Section:
    closed = increase(selected("dbwatch_connections_closed_total"))
    return Section(
        "Opening and closing connections",
        (
            time_series(
                "Opened and closed, by reason",
                "In the window behind each point, opened upwards, closed downwards; overflow closes on return, "
                "recycle for age, pre_ping a dead one, invalidated after an error. Good: opening stops after start. "
                "If overflow dominates, raise pool_size; if pre_ping or invalidated, something cuts idle connections "
                "or the database restarted.",
                "short",
                Query(f"sum({increase(OPENED)})", "opened", Style(GREEN)),
                Query(f"-({sum_by(('reason',), closed)} > 0)", "closed: {{reason}}"),
                bars=True,
                smallest=None,
                size=(12, 8),
            ),
            time_series(
                "Churn",
                "Connections opened for each successful checkout, by pool. Good: near 0. At 1 every request pays for "
                "a new connection (NullPool does so on purpose). If high, look at 'Opened and closed, by reason'.",
                "percentunit",
                Query(f"{sum_by(('pool',), rate(OPENED))} / ({sum_by(('pool',), rate(CHECKOUTS_OK))} > 0)", "{{pool}}"),
                size=(12, 8),
            ),
            time_series(
                "Connect errors, pre-ping failures and timeouts",
                "Events by pool in the window behind each point. Good: empty. Connect errors: the database or the "
                "way to it. Pre-ping failures: connections that died in the pool. Timeouts: the queue. If connect "
                "errors, look at the database's log.",
                "short",
                Query(
                    sum_by(("pool",), increase(selected("dbwatch_connect_errors_total"))),
                    "connect errors, {{pool}}",
                    Style(ORANGE),
                ),
                Query(
                    sum_by(("pool",), increase(selected("dbwatch_pre_ping_failures_total"))),
                    "pre-ping failures, {{pool}}",
                    Style(YELLOW),
                ),
                Query(
                    sum_by(("pool",), increase(selected("dbwatch_checkout_timeouts_total"))),
                    "timeouts, {{pool}}",
                    Style(RED),
                ),
                bars=True,
                size=(24, 7),
            ),
        ),
    )


def _configuration() -> Section:
    one_info = f"topk by ({', '.join(POOL_LABELS)}) (1, {INFO})"
    with_server = f"* on ({', '.join(POOL_LABELS)}) group_left (server) {one_info}"
    return Section(
        "Configuration and the database's limit",
        (
            values_table(
                "Configuration",
                "Good: pre_ping on, the timeout shorter than what callers wait for. If two instances differ, they "
                "run different versions or settings.",
                (
                    Column("Pool", label="pool"),
                    Column("Instance", label="instance"),
                    Column("Job", label="job"),
                    Column("Class", label="pool_class", width=190),
                    Column("Driver", label="driver"),
                    Column("Dialect", label="dialect"),
                    Column("Server", label="server"),
                    Column("Pre-ping", label="pre_ping"),
                    Column("Recycle", label="recycle", unit="none", names={"-1": ("never", "")}),
                    Column("Size", _with_info(selected("dbwatch_pool_size"), one_info)),
                    Column("Limit", _with_info(LIMIT, one_info), names={"Infinity": ("unlimited", "")}),
                    Column("Timeout", _with_info(selected("dbwatch_pool_timeout_seconds"), one_info), unit="s"),
                ),
                sort_by="Limit",
                size=(24, 7),
            ),
            time_series(
                "Connections the fleet may open, by server",
                "Sum of the limits of all instances and pools against the server's max_connections less the reserved "
                "ones (from postgres_exporter, if it is scraped and names the server alike). Good: below the dashed "
                "line. If above, one more deployment can lock everybody out: lower the limits or put PgBouncer in "
                "between.",
                "short",
                Query(f"sum by (server) (({LIMIT} < +Inf) {with_server})", "limits, {{server}}"),
                Query(
                    f"count by (server) (({LIMIT} == +Inf) {with_server})",
                    "unlimited pools, {{server}}",
                    Style(ORANGE, dashed=True, fill=0),
                ),
                Query(
                    "max by (server) (pg_settings_max_connections - pg_settings_superuser_reserved_connections)",
                    "server allows, {{server}}",
                    Style(RED, dashed=True, fill=0),
                ),
                Query(
                    f"max by (server) ({selected('dbwatch_server_max_connections')} {with_server})",
                    "server allows, as the app was told, {{server}}",
                    Style(YELLOW, dashed=True, fill=0),
                ),
                size=(12, 7),
            ),
            time_series(
                "Share of the server's connections, by service",
                "Limits of all pools of a service as a share of what its server has for everybody; needs the option "
                "server_limits. Good: below 1, with room for other services and for old and new instances side by "
                "side in a deployment. If above, lower max_overflow or the number of workers.",
                "percentunit",
                Query(
                    f"sum by (job, server) (({selected('dbwatch_pool_server_share_ratio')} < +Inf) {with_server})",
                    "{{job}}, {{server}}",
                ),
                size=(12, 7),
            ),
        ),
    )


def _with_info(value: str, one_info: str) -> str:
    """The value with the configuration's labels, so that all columns of a row agree in their labels."""
    labels = "pool_class, driver, dialect, server, pre_ping, recycle"
    keep = ", ".join((*POOL_LABELS, labels))
    return f"max by ({keep}) ({value} * on ({', '.join(POOL_LABELS)}) group_left ({labels}) {one_info})"
