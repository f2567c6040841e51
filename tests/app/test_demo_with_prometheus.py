"""A real Prometheus scrapes the demo under load; what it stored is compared with what traffic and database know.

In the middle of the run every table is locked for a few seconds: then every user is stuck in a request, and how many
connections are in use and how many requests wait is known for certain.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import psycopg
import pytest

from dbwatch.catalog import METRICS
from demo_app.load.report import LoadReport
from demo_app.models import Base
from demo_app.postgres import EmbeddedPostgres
from tests.grafana.programs import prometheus_program
from tests.servers.asgi import UvicornProcess
from tests.servers.prometheus import Prometheus
from tests.servers.waiting import eventually

DATABASE = "scraped_shop"
USERS, RATE, SECONDS = 12, 60, 15.0
SIZE, OVERFLOW, TIMEOUT = 3, 1, 25.0
LOCK_AFTER, LOCKED = 3.0, 8.0
POOLS = ("sync", "async")
SCRAPE_SECONDS = 0.5


@dataclass(frozen=True)
class Activity:
    """What pg_stat_activity says: connections of each pool, and those of them in a transaction."""

    time: float
    connections: dict[str, int]
    in_use: dict[str, int]


class Observer:
    """Looks at pg_stat_activity all the time, from another database."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._connection = psycopg.connect(
            host="127.0.0.1", port=postgres.port, user="postgres", dbname="postgres", autocommit=True
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: list[Activity] = []

    def look(self) -> Activity:
        """The activity now. psycopg takes its name from PGAPPNAME, asyncpg has none."""
        rows = self._connection.execute(
            "SELECT CASE application_name WHEN '' THEN 'async' ELSE application_name END, count(*),"
            " count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity"
            " WHERE datname = %s AND application_name IN ('', 'sync') GROUP BY 1",
            [DATABASE],
        ).fetchall()
        return Activity(time.time(), {row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows})

    def mean_in_use(self, start: float, end: float) -> float:
        """Connections in a transaction, averaged over a time."""
        seen = [activity for activity in self.seen if start <= activity.time <= end]
        total = sum(
            (later.time - earlier.time) * (sum(earlier.in_use.values()) + sum(later.in_use.values())) / 2
            for earlier, later in pairwise(seen)
        )
        return total / (end - start)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.seen.append(self.look())


@dataclass
class Run:
    """One run: what Prometheus stored, and what it is compared with."""

    prometheus: Prometheus
    report: LoadReport
    observer: Observer
    start: float
    end: float
    stuck_at: float
    stuck: Activity
    at_end: Activity
    #: With each run of a many-valued statement counted as one at least, and as one per row at most.
    statements: tuple[int, int]

    def total(self, expression: str, at: float | None = None) -> float:
        """The sum over the series of an expression, at the end unless told otherwise; 0 without any."""
        return sum(series.value for series in self.prometheus.query(expression, self.end if at is None else at))

    def one(self, expression: str, at: float | None = None) -> float:
        """The value of the one series of an expression."""
        [series] = self.prometheus.query(expression, self.end if at is None else at)
        return series.value


def lock_every_table(locker: psycopg.Connection[Any]) -> None:
    """Bring the app to a standstill.

    The app takes locks of its own in an order of its own. Giving up and starting again long before the server looks
    for deadlocks (after 1 s) leaves no deadlock for it to break, at the cost of either side.
    """
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    for _ in range(100):
        try:
            locker.execute("SET LOCAL lock_timeout = '100ms'")
            locker.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE".encode())
        except psycopg.errors.LockNotAvailable:
            locker.rollback()
        else:
            return
    pytest.fail("no moment was found in which no request was in the way")


@pytest.fixture(scope="module")
def run(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    prometheus_program("prometheus")
    directory = tmp_path_factory.mktemp("scraped")
    with ExitStack() as stack:
        admin = stack.enter_context(
            psycopg.connect(host="127.0.0.1", port=postgres.port, user="postgres", dbname="postgres", autocommit=True)
        )
        admin.execute(f"CREATE DATABASE {DATABASE}".encode())
        app = stack.enter_context(
            UvicornProcess(
                "demo_app.app:create_app",
                directory / "app.log",
                env={
                    "DATABASE_URL": postgres.url(database=DATABASE),
                    "PGAPPNAME": "sync",
                    "POOL_SIZE": str(SIZE),
                    "MAX_OVERFLOW": str(OVERFLOW),
                    "POOL_TIMEOUT": str(TIMEOUT),
                },
                options=("--factory",),
            )
        )
        prometheus = stack.enter_context(
            Prometheus(directory, [app.address], interval=f"{round(SCRAPE_SECONDS * 1000)}ms")
        )
        prometheus.wait_for_targets()
        locker = stack.enter_context(
            psycopg.connect(
                host="127.0.0.1", port=postgres.port, user="postgres", dbname=DATABASE, application_name="locker"
            )
        )
        locker.execute("CREATE EXTENSION pg_stat_statements")
        locker.execute("SELECT pg_stat_statements_reset()")
        locker.commit()
        observer = stack.enter_context(Observer(postgres))
        start = time.time()
        report = directory / "report.json"
        load = subprocess.Popen(
            [
                *(sys.executable, "-m", "demo_app.load", app.url, f"--users={USERS}", f"--rate={RATE}"),
                *(f"--duration={SECONDS}", f"--report={report}"),
            ],
            stdout=subprocess.DEVNULL,
        )
        stack.callback(load.wait, 60)
        eventually(lambda: sum(observer.look().connections.values()) > 1)
        time.sleep(LOCK_AFTER)
        lock_every_table(locker)
        time.sleep(LOCKED / 2)
        stuck_at, stuck = time.time(), observer.look()
        time.sleep(LOCKED / 2)
        locker.rollback()
        assert load.wait(60) == 0
        loaded = time.time()
        eventually(lambda: prometheus.value("max(timestamp(dbwatch_build_info))") > loaded + SCRAPE_SECONDS)
        end = time.time()
        row = locker.execute(
            "SELECT sum(calls) FILTER (WHERE query !~ '^(INSERT INTO|DELETE FROM) demo_order_lines'), sum(calls)"
            " FROM pg_stat_statements JOIN pg_database ON dbid = oid"
            " WHERE datname = %s AND query LIKE '%%demo\\_%%' AND query NOT LIKE 'LOCK%%'",
            [DATABASE],
        ).fetchone()
        locker.rollback()
        assert row is not None
        yield Run(
            prometheus,
            LoadReport.read(report),
            observer,
            start,
            end,
            stuck_at,
            stuck,
            observer.look(),
            (int(row[0]), int(row[1])),
        )


_NOT_HERE = {
    "dbwatch_internal_errors_total",
    "dbwatch_route_events_total",
    "dbwatch_server_max_connections",
    "dbwatch_pool_server_share_ratio",
}


def test_every_metric_of_the_catalogue_was_scraped(run: Run) -> None:
    names = {series.labels["__name__"] for series in run.prometheus.query('{__name__=~"dbwatch_.+"}', run.end)}
    for metric in METRICS.values():
        expected = f"{metric.name}_bucket" if metric.kind == "histogram" else metric.name
        # Two have a series for each place or event that occurred, and nothing went wrong; two are wanted by an option.
        if metric.name not in _NOT_HERE:
            assert expected in names
    assert run.total("dbwatch_internal_errors_total") == 0
    assert run.total("dbwatch_label_overflow_total") == 0
    assert run.one("dbwatch_build_info") == 1


def test_the_traffic_got_the_answers_it_had_to_get(run: Run) -> None:
    assert run.report.unexpected == 0
    assert run.report.requests > 200


def test_checkouts_counted_are_checkouts_made_route_by_route(run: Run) -> None:
    counted = {
        (series.labels["method"], series.labels["route"]): series.value
        for series in run.prometheus.query("dbwatch_request_checkouts_total", run.end)
    }
    assert counted == {(route.method, route.route): route.checkouts for route in run.report.routes if route.checkouts}


@pytest.mark.parametrize("pool", POOLS)
def test_checkouts_and_holds_of_a_pool_are_those_of_its_routes(run: Run, pool: str) -> None:
    made = run.report.checkouts(lambda route: route.route.startswith(f"/{pool}/"))
    made += pool == "sync"  # the tables were made before the first request
    labels = f'pool="{pool}"'
    assert run.one(f'dbwatch_checkout_seconds_count{{{labels}, outcome="ok"}}') == made
    assert run.one(f'dbwatch_checkout_seconds_bucket{{{labels}, outcome="ok", le="+Inf"}}') == made
    assert run.total(f'dbwatch_checkout_seconds_count{{{labels}, outcome!="ok"}}') == 0
    assert run.one(f"dbwatch_checkout_timeouts_total{{{labels}}}") == 0
    assert run.one(f"dbwatch_hold_seconds_count{{{labels}}}") == made
    assert run.total(f"dbwatch_leaks_total{{{labels}}}") == 0


@pytest.mark.parametrize("pool", POOLS)
def test_used_and_idle_are_the_connections_the_database_has(run: Run, pool: str) -> None:
    connections = f'dbwatch_pool_connections{{pool="{pool}", state="%s"}}'
    stuck = run.stuck_at
    assert run.one(connections % "used", stuck) == run.stuck.in_use[pool]
    assert run.one(connections % "idle", stuck) == run.stuck.connections[pool] - run.stuck.in_use[pool]
    assert run.one(connections % "used") == 0
    assert run.one(connections % "idle") == run.at_end.connections[pool]


def test_at_a_standstill_the_gauges_account_for_every_user(run: Run) -> None:
    in_use = sum(run.stuck.in_use.values())
    assert run.total("dbwatch_pool_waiters", run.stuck_at) == USERS - in_use > 0
    assert run.total("dbwatch_route_connections", run.stuck_at) == in_use
    for pool in POOLS:
        used = run.stuck.in_use[pool]
        assert run.one(f'dbwatch_pool_overflow_connections{{pool="{pool}"}}', run.stuck_at) == max(0, used - SIZE)
        assert run.one(f'dbwatch_pool_used_peak_connections{{pool="{pool}"}}', run.stuck_at) >= used
        assert run.one(f'dbwatch_pool_leaked_connections{{pool="{pool}"}}', run.stuck_at) == 0
    stuck_for = run.one("max(dbwatch_pool_oldest_checkout_seconds)", run.stuck_at)
    assert LOCKED / 2 - 2 * SCRAPE_SECONDS < stuck_for < LOCKED
    assert 0 < run.one("max(dbwatch_pool_oldest_waiter_seconds)", run.stuck_at) < LOCKED


def test_after_the_load_the_gauges_are_at_rest(run: Run) -> None:
    for gauge in ("waiters", "overflow_connections", "leaked_connections", "oldest_waiter_seconds"):
        assert run.total(f"dbwatch_pool_{gauge}") == 0
    assert run.total("dbwatch_pool_oldest_checkout_seconds") == 0
    assert run.total("dbwatch_route_connections") == 0


@pytest.mark.parametrize("pool", POOLS)
def test_the_configuration_is_what_the_app_was_given(run: Run, pool: str) -> None:
    assert run.one(f'dbwatch_pool_size{{pool="{pool}"}}') == SIZE
    assert run.one(f'dbwatch_pool_limit{{pool="{pool}"}}') == SIZE + OVERFLOW
    assert run.one(f'dbwatch_pool_timeout_seconds{{pool="{pool}"}}') == TIMEOUT
    [info] = run.prometheus.query(f'dbwatch_pool_info{{pool="{pool}"}}', run.end)
    assert info.value == 1
    assert info.labels["driver"] == {"sync": "psycopg", "async": "asyncpg"}[pool]
    assert (info.labels["dialect"], info.labels["pre_ping"]) == ("postgresql", "true")


def test_the_mean_of_connections_in_use_is_the_rate_of_holds(run: Run) -> None:
    window = run.end - run.start
    rate = run.one(f"sum(rate(dbwatch_hold_seconds_sum[{round(window * 1000)}ms]))")
    assert rate == pytest.approx(run.observer.mean_in_use(run.start, run.end), rel=0.05)


def test_holds_split_into_what_they_did_and_by_the_routes_that_did_it(run: Run) -> None:
    hold = run.total("dbwatch_hold_seconds_sum")
    assert run.total("dbwatch_hold_activity_seconds_total") == pytest.approx(hold, rel=1e-6)
    before_requests = run.total("dbwatch_hold_seconds_sum", run.start)
    in_requests = hold - before_requests
    assert run.total("dbwatch_request_hold_seconds_sum") == pytest.approx(in_requests, rel=1e-6)
    assert run.total("dbwatch_request_hold_seconds_count") == run.report.checkouts()
    executing = run.total("dbwatch_request_executing_seconds_total")
    # Most of the time the requests stood before the lock, in the middle of a statement.
    assert in_requests * 0.8 < executing < in_requests


def test_statements_counted_are_statements_the_database_ran(run: Run) -> None:
    least, most = run.statements
    assert least <= run.total("dbwatch_request_statements_total") <= most
    by_request = {"/products": 2, "/products/{product_id}": 1, "/customers": 2, "/customers/{customer_id}": 1}
    for route in run.report.routes:
        each = by_request.get(route.route.removeprefix("/sync").removeprefix("/async"))
        if route.method == "GET" and each is not None:
            labels = f'method="GET", route="{route.route}"'
            assert run.one(f"dbwatch_request_statements_total{{{labels}}}") == each * route.checkouts


@pytest.mark.parametrize("pool", POOLS)
def test_connections_opened_and_closed_add_up_to_those_the_database_has(run: Run, pool: str) -> None:
    labels = f'pool="{pool}"'
    opened = run.one(f"dbwatch_connections_opened_total{{{labels}}}")
    closed = run.total(f"dbwatch_connections_closed_total{{{labels}}}")
    assert opened - closed == run.at_end.connections[pool]
    assert run.total(f'dbwatch_connections_closed_total{{{labels}, reason!="overflow"}}') == 0
    assert run.one(f"dbwatch_connect_errors_total{{{labels}}}") == 0
    assert run.one(f"dbwatch_pre_ping_failures_total{{{labels}}}") == 0
    phases = f"dbwatch_checkout_phase_seconds_count{{{labels}, phase='%s'}}"
    assert run.one(phases % "connect") == opened
    checkouts = run.one(f'dbwatch_checkout_seconds_count{{{labels}, outcome="ok"}}')
    assert run.one(phases % "ping") == checkouts - opened
    assert run.one(f"dbwatch_overflow_checkouts_total{{{labels}}}") >= run.stuck.in_use[pool] - SIZE


def test_the_users_that_waited_at_the_standstill_waited_that_long(run: Run) -> None:
    waiters = USERS - sum(run.stuck.in_use.values())
    waited = run.total('dbwatch_checkout_phase_seconds_sum{phase="wait"}')
    assert run.total('dbwatch_checkout_phase_seconds_count{phase="wait"}') >= waiters
    assert waiters * LOCKED / 2 < waited < USERS * (LOCKED + 2)
    assert run.total("dbwatch_request_wait_seconds_total") == pytest.approx(waited, rel=1e-6)
    long = run.total('dbwatch_checkout_phase_seconds_count{phase="wait"}') - run.total(
        'dbwatch_checkout_phase_seconds_bucket{phase="wait", le="1.0"}'
    )
    assert long >= waiters
    assert run.total("dbwatch_event_loop_blocked_seconds_total") == 0


def test_a_finding_was_counted_for_every_slow_checkout_and_for_nothing_else(run: Run) -> None:
    slow = run.total("dbwatch_checkout_seconds_count") - run.total('dbwatch_checkout_seconds_bucket{le="1.0"}')
    assert run.total('dbwatch_findings_total{finding="slow_checkout"}') == slow
    assert run.total('dbwatch_findings_total{finding!="slow_checkout"}') == 0
