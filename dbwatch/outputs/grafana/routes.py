"""The routes dashboard: which requests hold the connections, wait for them, leak them, or block the event loop."""

from collections.abc import Callable

from grafana_foundation_sdk.models import dashboard as models

from dbwatch.outputs.grafana import links
from dbwatch.outputs.grafana.frame import DashboardOptions, build
from dbwatch.outputs.grafana.frame import selected_routes as selected
from dbwatch.outputs.grafana.layout import Section
from dbwatch.outputs.grafana.panels import (
    BLUE,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    Column,
    Query,
    Style,
    ranking,
    thresholds,
    time_series,
    values_table,
)
from dbwatch.outputs.grafana.promql import events, quantile, rate, sum_by

ROUTE = ("method", "route")
EVENT = (*ROUTE, "event")
NAME = "{{method}} {{route}}"
SHOWN = 10

CHECKOUT_BUCKETS = selected("dbwatch_request_checkout_seconds_bucket")
HOLD_BUCKETS = selected("dbwatch_request_hold_seconds_bucket")
LEAKS = selected("dbwatch_route_events_total", event="leak")
OTHER_EVENTS = selected("dbwatch_route_events_total", event=("timeout", "overflow", "pre_ping_failure"))
FINDINGS = selected("dbwatch_findings_total")

#: Writes an expression by route over a window that ends now or at another time.
ByRoute = Callable[[str, str], str]
NOW = ("$__rate_interval", "")
WHOLE_RANGE = ("$__range", "end()")


def _rate_of(series: str) -> ByRoute:
    return lambda window, at: sum_by(ROUTE, rate(selected(series), window, at))


def _share_of(part: ByRoute, whole: ByRoute) -> ByRoute:
    return lambda window, at: f"{part(window, at)} / ({whole(window, at)} > 0)"


def _p95_of(buckets: str) -> ByRoute:
    return lambda window, at: quantile(0.95, buckets, ROUTE, window, at)


REQUESTS = _rate_of("dbwatch_request_hold_seconds_count")
HOLD_SECONDS = _rate_of("dbwatch_request_hold_seconds_sum")
WAIT_SECONDS = _rate_of("dbwatch_request_wait_seconds_total")
EXECUTING_SECONDS = _rate_of("dbwatch_request_executing_seconds_total")
BLOCKED_SECONDS = _rate_of("dbwatch_event_loop_blocked_seconds_total")
CHECKOUTS = _share_of(_rate_of("dbwatch_request_checkouts_total"), REQUESTS)
STATEMENTS = _share_of(_rate_of("dbwatch_request_statements_total"), REQUESTS)
MEAN_HOLD = _share_of(HOLD_SECONDS, REQUESTS)
CHECKOUT_P95, HOLD_P95 = _p95_of(CHECKOUT_BUCKETS), _p95_of(HOLD_BUCKETS)


def _without_statement(window: str, at: str) -> str:
    # A request may hold two connections at once, and rounding may leave the difference just below zero.
    return f"clamp_min(1 - {_share_of(EXECUTING_SECONDS, HOLD_SECONDS)(window, at)}, 0)"


def routes(options: DashboardOptions) -> models.Dashboard:
    """The dashboard that names the route."""
    return build(
        links.ROUTES_UID,
        "dbwatch / Routes",
        "Which requests hold the connections, wait for them, leak them, or block the event loop.",
        (_holders(), _waits(), _habits(), _mistakes()),
        options,
        by_route=True,
    )


def _largest(by_route: ByRoute) -> str:
    """The routes that were largest over the whole range: topk alone chooses others at every point of the graph."""
    return f"{by_route(*NOW)}\nand on ({', '.join(ROUTE)})\ntopk({SHOWN}, {by_route(*WHOLE_RANGE)})"


def _holders() -> Section:
    return Section(
        "Who holds the connections?",
        (
            time_series(
                "Connection-seconds by route",
                "Connections each route uses on average: its requests per second times their hold. Good: spread as "
                "the traffic is. If one route stands out, shortening its hold frees most connections: see whether it "
                "runs SQL all that time under 'Share of hold without a statement'.",
                "short",
                Query(_largest(HOLD_SECONDS), NAME),
                stacked=True,
                legend_values=True,
                size=(14, 9),
            ),
            ranking(
                "Held now, by route",
                "Connections out at this moment. Good: few each. If one route holds most of the pool, it is the "
                "culprit, whoever else gets the timeout: see its hold and what it does meanwhile.",
                "short",
                Query(f"topk({SHOWN}, {sum_by(ROUTE, selected('dbwatch_route_connections'))} > 0)", NAME),
                thresholds(base=BLUE),
                size=(10, 9),
            ),
            values_table(
                "Routes",
                "Of the last minutes, the one with most connection-seconds first. Good: one checkout and a few "
                "statements each, little hold without a statement. If not, read the row: many statements is an N+1, "
                "two checkouts a nested session, much idle hold a connection kept across other work.",
                (
                    Column("Route", label="route", width=260),
                    Column("Method", label="method", width=80),
                    Column("Connections", HOLD_SECONDS(*NOW)),
                    Column("Requests/s", REQUESTS(*NOW)),
                    Column("Hold, mean", MEAN_HOLD(*NOW), unit="s"),
                    Column("Hold p95", HOLD_P95(*NOW), unit="s"),
                    Column(
                        "Checkout p95",
                        CHECKOUT_P95(*NOW),
                        unit="s",
                        limits=thresholds((0.1, ORANGE), (1, RED)),
                    ),
                    Column(
                        "No statement",
                        _without_statement(*NOW),
                        unit="percentunit",
                        limits=thresholds((0.5, YELLOW), (0.8, ORANGE)),
                    ),
                    Column("Checkouts", CHECKOUTS(*NOW), limits=thresholds((1.5, YELLOW), (3, ORANGE))),
                    Column("Statements", STATEMENTS(*NOW), limits=thresholds((10, YELLOW), (50, ORANGE))),
                ),
                sort_by="Connections",
                size=(24, 9),
            ),
        ),
    )


def _waits() -> Section:
    return Section(
        "Who waits, and who makes them wait?",
        (
            time_series(
                "Checkout p95 by route",
                "How long requests of a route wait for all their connections together. Good: below 100 ms. If all "
                "routes are slow alike, the pool is short or somebody else holds it: see 'Connection-seconds by "
                "route'. If one, it checks out more than once.",
                "s",
                Query(_largest(CHECKOUT_P95), NAME),
                legend_values=True,
                size=(12, 9),
            ),
            time_series(
                "Hold p95 by route",
                "How long requests of a route hold connections, summed over their checkouts. Good: milliseconds. If "
                "seconds, look at the same route under 'Share of hold without a statement': high means idle, low "
                "means slow SQL.",
                "s",
                Query(_largest(HOLD_P95), NAME),
                legend_values=True,
                size=(12, 9),
            ),
            time_series(
                "Waiting requests by route",
                "Requests of the route that on average stood in the queue (the rate of wait seconds). Good: near 0. "
                "If not, these are the victims; the culprits are under 'Held now, by route'.",
                "short",
                Query(_largest(WAIT_SECONDS), NAME),
                stacked=True,
                legend_values=True,
                size=(12, 8),
            ),
            time_series(
                "Share of hold without a statement",
                "Part of the hold in which no statement, COMMIT or ROLLBACK ran. Good: below half. If high on a "
                "route with many connection-seconds, it keeps a connection while it calls something else, renders or "
                "streams: take it later or give it back earlier.",
                "percentunit",
                Query(_largest(_without_statement), NAME),
                largest=1,
                legend_values=True,
                size=(12, 8),
            ),
        ),
    )


def _habits() -> Section:
    return Section(
        "How do they use the database?",
        (
            time_series(
                "Checkouts per request",
                "Good: 1. If 2 or more at the same time, requests can block each other for good once as many run as "
                "the pool has connections; the finding nested_checkout proves it.",
                "short",
                Query(_largest(CHECKOUTS), NAME),
                legend_values=True,
                size=(12, 8),
            ),
            time_series(
                "Statements per request",
                "Good: a handful that does not grow with the data. If it is large, suspect an N+1: the finding "
                "repeated_statement names the statement.",
                "short",
                Query(_largest(STATEMENTS), NAME),
                legend_values=True,
                size=(12, 8),
            ),
        ),
    )


def _mistakes() -> Section:
    return Section(
        "Who makes mistakes?",
        (
            time_series(
                "Leaks by route",
                "Connections still out after their request, in the window behind each point. Good: empty. If not, "
                "this route's session is not closed on some path: the finding leaked_connection in the log has the "
                "line.",
                "short",
                Query(f"{sum_by(ROUTE, events(LEAKS))} > 0", NAME),
                bars=True,
                size=(12, 8),
            ),
            time_series(
                "Other events by route",
                "Timeouts, overflow checkouts and pre-ping failures by route, in the window behind each point. Good: "
                "empty. If timeouts, these routes are the victims; for the culprit look at 'Held now, by route'.",
                "short",
                Query(
                    f"({sum_by(EVENT, events(OTHER_EVENTS))} > 0)\nand on ({', '.join(EVENT)})\n"
                    f"topk({SHOWN}, {sum_by(EVENT, OTHER_EVENTS + ' @ end()')})",
                    "{{event}}, " + NAME,
                ),
                bars=True,
                size=(12, 8),
            ),
            time_series(
                "Findings by kind",
                "Mistakes proven, in the window behind each point. Good: empty. If not, 'Findings by route' and the "
                "application's log name the place, the cause and the fix.",
                "short",
                Query(f"{sum_by(('finding',), events(FINDINGS))} > 0", "{{finding}}"),
                bars=True,
                size=(12, 8),
            ),
            time_series(
                "Event loop blocked by route",
                "Share of the time in which a synchronous engine held up the event loop. Good: empty. If not, every "
                "other request of that process stood still meanwhile: use an async driver, or a plain def endpoint.",
                "percentunit",
                Query(f"({_largest(BLOCKED_SECONDS)}) > 0", NAME, Style(fill=20)),
                size=(12, 8),
            ),
            values_table(
                "Findings by route",
                "Since the processes started. Good: no rows. If not, the finding's page explains cause and fix.",
                (
                    Column("Finding", label="finding", width=170),
                    Column("Route", label="route"),
                    Column("Method", label="method", width=80),
                    Column("Pool", label="pool"),
                    Column("Times", sum_by(("finding", *ROUTE, "pool"), FINDINGS), width=80),
                ),
                sort_by="Times",
                size=(14, 8),
            ),
            ranking(
                "Leaks since start, by route",
                "Good: none. If not, mend the top one first: each of these was a connection lost to the pool until "
                "it came back or the process ended.",
                "short",
                Query(f"topk({SHOWN}, {sum_by(ROUTE, LEAKS)} > 0)", NAME),
                thresholds(base=PURPLE),
                size=(10, 8),
            ),
        ),
    )
