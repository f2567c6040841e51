"""Every metric, once: name, kind, unit, labels, buckets, help, OpenTelemetry name.

Data only. The accumulators, the Prometheus and OpenTelemetry outputs, the dashboards, the alert rules and the
reference pages are all derived from this table, so a name that is not here does not exist.

Names of OpenTelemetry metrics follow the semantic conventions for database clients, ``db.client.connection.*``
(https://opentelemetry.io/docs/specs/semconv/database/database-metrics/).
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Aggregation = Literal["sum", "max"]

#: Upper bounds in seconds of pool-level times that can reach the pool's timeout (30 s by default): 0.1 s is an exact
#: bound, so that "share of checkouts within 100 ms" needs no interpolation, and the last bound lies past 30 s.
CHECKOUT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: Upper bounds in seconds of holds: a healthy hold is milliseconds, a report or a stream may be minutes.
HOLD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Upper bounds in seconds of times by route: few, because they are multiplied by the number of routes.
ROUTE_BUCKETS = (0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0)

#: Label values of the labels that have a fixed set; these series exist at 0 from the moment a pool is first seen.
CHECKOUT_OUTCOMES = ("ok", "timeout", "error", "cancelled")
CHECKOUT_PHASES = ("wait", "connect", "ping")
HOLD_ACTIVITIES = ("executing", "idle", "unknown")
LEAK_KINDS = ("request_end", "gc")
CLOSE_REASONS = ("overflow", "recycle", "invalidated", "pre_ping", "dispose", "gc", "detached", "other")
CONNECTION_STATES = ("used", "idle")
ROUTE_EVENTS = ("leak", "timeout", "overflow", "pre_ping_failure")
OVERFLOWING_LABELS = ("pool", "route")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    ``labels`` are the label names in order; ``values`` lists, for a label with a fixed set, all its values.
    ``aggregation`` says how several worker processes are combined (counters and histograms are always summed).
    ``otel`` is the name of the same number in OpenTelemetry, empty where the conventions have none.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    aggregation: Aggregation = "sum"
    otel: str = ""


_METRICS = (
    # Pools, now.
    Metric(
        "dbwatch_pool_connections",
        "gauge",
        "connections",
        "Connections of the pool by state: used (checked out now) or idle (open and free).",
        ("pool", "state"),
        CONNECTION_STATES,
        otel="db.client.connection.count",
    ),
    Metric(
        "dbwatch_pool_size",
        "gauge",
        "connections",
        "Connections the pool keeps open when they come back (pool_size).",
        ("pool",),
        otel="db.client.connection.idle.max",
    ),
    Metric(
        "dbwatch_pool_limit",
        "gauge",
        "connections",
        "Connections the pool may have out at once (pool_size + max_overflow), +Inf if unlimited.",
        ("pool",),
        otel="db.client.connection.max",
    ),
    Metric(
        "dbwatch_pool_overflow_connections",
        "gauge",
        "connections",
        "Connections checked out above pool_size, never negative.",
        ("pool",),
        otel="dbwatch.pool.overflow",
    ),
    Metric(
        "dbwatch_pool_waiters",
        "gauge",
        "checkouts",
        "Checkouts waiting in the pool's queue now.",
        ("pool",),
        otel="db.client.connection.pending_requests",
    ),
    Metric(
        "dbwatch_pool_leaked_connections",
        "gauge",
        "connections",
        "Connections still out although the request that took them has ended.",
        ("pool",),
        otel="dbwatch.pool.leaked",
    ),
    Metric(
        "dbwatch_pool_used_peak_connections",
        "gauge",
        "connections",
        "Most connections checked out at once in the last two minutes, taken at each checkout "
        "(over several workers: an upper bound).",
        ("pool",),
        otel="dbwatch.pool.used.peak",
    ),
    Metric(
        "dbwatch_pool_oldest_waiter_seconds",
        "gauge",
        "seconds",
        "How long the checkout that has waited longest has been waiting, 0 if none waits.",
        ("pool",),
        aggregation="max",
        otel="dbwatch.pool.wait.oldest",
    ),
    Metric(
        "dbwatch_pool_oldest_checkout_seconds",
        "gauge",
        "seconds",
        "How long the connection that has been out longest has been out, 0 if none is.",
        ("pool",),
        aggregation="max",
        otel="dbwatch.pool.use.oldest",
    ),
    Metric(
        "dbwatch_pool_timeout_seconds",
        "gauge",
        "seconds",
        "How long a checkout may wait before it fails (pool_timeout).",
        ("pool",),
        aggregation="max",
        otel="dbwatch.pool.timeout",
    ),
    Metric(
        "dbwatch_server_max_connections",
        "gauge",
        "connections",
        "Connections that the database server has for accounts without special rights, as it said when it was asked "
        "(option server_limits).",
        ("pool",),
        aggregation="max",
        otel="dbwatch.server.max",
    ),
    Metric(
        "dbwatch_pool_server_share_ratio",
        "gauge",
        "ratio",
        "Limit of the pool as a share of what the server has for everybody, over all workers: 1 is all of it "
        "(option server_limits).",
        ("pool",),
        otel="dbwatch.pool.server_share",
    ),
    Metric(
        "dbwatch_pool_info",
        "gauge",
        "",
        "Configuration of the pool as labels, always 1.",
        ("pool", "pool_class", "dialect", "driver", "server", "pre_ping", "recycle"),
        aggregation="max",
    ),
    # Pools, over time.
    Metric(
        "dbwatch_checkout_seconds",
        "histogram",
        "seconds",
        "Checkout time: from asking for a connection to having it, or to giving up, by outcome.",
        ("pool", "outcome"),
        CHECKOUT_OUTCOMES,
        CHECKOUT_BUCKETS,
        otel="db.client.connection.wait_time",
    ),
    Metric(
        "dbwatch_checkout_phase_seconds",
        "histogram",
        "seconds",
        "Parts of the checkout time, each observed only when it happened: wait (blocked in the pool's queue), "
        "connect (opening a new connection), ping (pre-ping).",
        ("pool", "phase"),
        CHECKOUT_PHASES,
        CHECKOUT_BUCKETS,
        otel="db.client.connection.create_time",
    ),
    Metric(
        "dbwatch_hold_seconds",
        "histogram",
        "seconds",
        "Hold: from having a connection to giving it back.",
        ("pool",),
        (),
        HOLD_BUCKETS,
        otel="db.client.connection.use_time",
    ),
    Metric(
        "dbwatch_hold_activity_seconds_total",
        "counter",
        "seconds",
        "Hold time by activity: executing (a statement, COMMIT or ROLLBACK was running), idle (none was), "
        "unknown (rows were streamed, or no statement was seen, as with COPY or a raw cursor).",
        ("pool", "activity"),
        HOLD_ACTIVITIES,
        otel="dbwatch.hold.activity",
    ),
    Metric(
        "dbwatch_connections_opened_total",
        "counter",
        "connections",
        "Connections opened to the server.",
        ("pool",),
        otel="dbwatch.connections.opened",
    ),
    Metric(
        "dbwatch_connect_errors_total",
        "counter",
        "errors",
        "Attempts to open a connection that failed.",
        ("pool",),
        otel="dbwatch.connect.errors",
    ),
    Metric(
        "dbwatch_overflow_checkouts_total",
        "counter",
        "checkouts",
        "Checkouts that took the pool above pool_size.",
        ("pool",),
        otel="dbwatch.checkouts.overflow",
    ),
    Metric(
        "dbwatch_pre_ping_failures_total",
        "counter",
        "errors",
        "Connections that pool_pre_ping found dead at checkout and replaced.",
        ("pool",),
        otel="dbwatch.pre_ping.failures",
    ),
    Metric(
        "dbwatch_checkout_timeouts_total",
        "counter",
        "checkouts",
        "Checkouts that gave up waiting after pool_timeout.",
        ("pool",),
        otel="db.client.connection.timeouts",
    ),
    Metric(
        "dbwatch_leaks_total",
        "counter",
        "connections",
        "Leaks, each counted once: request_end (still out when its request had ended) "
        "or gc (reclaimed by the garbage collector).",
        ("pool", "kind"),
        LEAK_KINDS,
        otel="dbwatch.leaks",
    ),
    Metric(
        "dbwatch_leaks_returned_total",
        "counter",
        "connections",
        "Leaks of kind request_end whose connection came back later, by hand or by the garbage collector.",
        ("pool",),
        otel="dbwatch.leaks.returned",
    ),
    Metric(
        "dbwatch_connections_closed_total",
        "counter",
        "connections",
        "Connections that left the pool, by reason.",
        ("pool", "reason"),
        CLOSE_REASONS,
        otel="dbwatch.connections.closed",
    ),
    # Requests that tried at least one checkout.
    Metric(
        "dbwatch_request_checkout_seconds",
        "histogram",
        "seconds",
        "Checkout time of a request: the sum over its checkouts.",
        ("method", "route"),
        (),
        ROUTE_BUCKETS,
        otel="dbwatch.request.checkout",
    ),
    Metric(
        "dbwatch_request_hold_seconds",
        "histogram",
        "seconds",
        "Hold of a request: the sum over its checkouts.",
        ("method", "route"),
        (),
        ROUTE_BUCKETS,
        otel="dbwatch.request.hold",
    ),
    Metric(
        "dbwatch_request_wait_seconds_total",
        "counter",
        "seconds",
        "Time requests were blocked in the pool's queue.",
        ("method", "route"),
        otel="dbwatch.request.wait",
    ),
    Metric(
        "dbwatch_request_executing_seconds_total",
        "counter",
        "seconds",
        "Time in which requests ran a statement, COMMIT or ROLLBACK.",
        ("method", "route"),
        otel="dbwatch.request.executing",
    ),
    Metric(
        "dbwatch_request_checkouts_total",
        "counter",
        "checkouts",
        "Checkouts that requests tried.",
        ("method", "route"),
        otel="dbwatch.request.checkouts",
    ),
    Metric(
        "dbwatch_request_statements_total",
        "counter",
        "statements",
        "Statements that requests ran.",
        ("method", "route"),
        otel="dbwatch.request.statements",
    ),
    Metric(
        "dbwatch_route_connections",
        "gauge",
        "connections",
        "Connections held now by requests of the route.",
        ("method", "route"),
        otel="dbwatch.route.connections",
    ),
    Metric(
        "dbwatch_route_events_total",
        "counter",
        "events",
        "What went wrong with connections, by pool and route.",
        ("pool", "method", "route", "event"),
        ROUTE_EVENTS,
        otel="dbwatch.route.events",
    ),
    Metric(
        "dbwatch_event_loop_blocked_seconds_total",
        "counter",
        "seconds",
        "Time in which a synchronous engine held up the event loop: statements, COMMIT, ROLLBACK and checkouts "
        "on the loop's thread.",
        ("method", "route"),
        otel="dbwatch.event_loop.blocked",
    ),
    Metric(
        "dbwatch_findings_total",
        "counter",
        "findings",
        "Mistakes proven at run time, by finding.",
        ("finding", "pool", "method", "route"),
        otel="dbwatch.findings",
    ),
    # dbwatch itself.
    Metric(
        "dbwatch_build_info", "gauge", "", "Version of dbwatch as a label, always 1.", ("version",), aggregation="max"
    ),
    Metric(
        "dbwatch_internal_errors_total",
        "counter",
        "errors",
        "Errors inside dbwatch, kept away from the application, by place.",
        ("site",),
    ),
    Metric(
        "dbwatch_label_overflow_total",
        "counter",
        "events",
        "Pools or routes folded into '(other)' because their label had reached its bound.",
        ("label",),
        OVERFLOWING_LABELS,
    ),
)

#: Every metric by its name, in the order in which they are exposed.
METRICS: dict[str, Metric] = {metric.name: metric for metric in _METRICS}
