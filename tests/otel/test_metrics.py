import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, Metric, Sum
from opentelemetry.semconv._incubating.metrics import db_metrics
from sqlalchemy import NullPool, QueuePool, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import dbwatch
from dbwatch import runtime
from dbwatch.catalog import METRICS
from dbwatch.telemetry import TELEMETRY
from tests.core.numbers import Numbers
from tests.otel.conftest import Configure, Exported

PREFIX = "create_db_client_connection_"
POOL = "db.client.connection.pool.name"


class Conventions:
    """A meter that notes what the conventions' own functions ask it for."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, str]] = {}

    def __getattr__(self, method: str) -> Callable[..., None]:
        def create(name: str, description: str, unit: str) -> None:
            self.found[name] = (method.removeprefix("create_"), unit)

        return create


def conventions() -> dict[str, tuple[str, str]]:
    """Instrument and unit of each connection metric of the installed semantic conventions, by name."""
    meter: Any = Conventions()
    for name in dir(db_metrics):
        if name.startswith(PREFIX):
            getattr(db_metrics, name)(meter)
    return dict(meter.found)


def instrument(metric: Metric) -> str:
    """Which kind of instrument the exported data are those of."""
    if isinstance(metric.data, Histogram):
        return "histogram"
    assert isinstance(metric.data, Sum)
    return "counter" if metric.data.is_monotonic else "up_down_counter"


def visit(engine: Any) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def test_the_installed_conventions_have_the_nine_metrics() -> None:
    assert len(conventions()) == 9


@pytest.mark.parametrize("name", sorted(conventions()))
def test_a_metric_of_the_conventions_is_exported_with_its_instrument_unit_and_attributes(
    name: str, exported: Exported
) -> None:
    engine = create_engine("sqlite://", poolclass=QueuePool)
    dbwatch.watch(engine, name="primary")
    visit(engine)
    engine.dispose()
    metric = exported.metrics()[name]
    assert (instrument(metric), metric.unit) == conventions()[name]
    expected = {POOL, "db.client.connection.state"} if name.endswith("connection.count") else {POOL}
    for point in metric.data.data_points:
        assert set(point.attributes or ()) == expected
        assert (point.attributes or {})[POOL] == "primary"


def test_what_is_exported_is_what_the_metrics_page_says(exported: Exported) -> None:
    numbers = Numbers()
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=1, pool_timeout=0.05)
    dbwatch.watch(engine, name="primary")
    visit(engine)
    with engine.connect() as first, engine.connect():
        first.execute(text("SELECT 1"))
        with pytest.raises(PoolTimeoutError):
            engine.connect()
        state = "db_client_connection_state"
        assert exported.value("db.client.connection.count", **{state: "used"}) == 2
        assert exported.value("db.client.connection.count", **{state: "idle"}) == 0
    assert exported.value("db.client.connection.count", **{state: "used"}) == 0
    assert exported.value("db.client.connection.count", **{state: "idle"}) == 1
    assert exported.value("db.client.connection.max") == 2
    assert exported.value("db.client.connection.idle.max") == 1
    assert exported.value("db.client.connection.idle.min") == 0
    assert exported.value("db.client.connection.pending_requests") == 0
    assert exported.value("db.client.connection.timeouts") == 1
    assert exported.value("db.client.connection.wait_time") == numbers.checkouts("ok") == 3
    assert exported.value("db.client.connection.create_time") == numbers.phase("connect")[0] == 2
    assert exported.value("db.client.connection.use_time") == numbers("dbwatch_hold_seconds_count") == 3
    assert exported.value("dbwatch.checkout.wait") == numbers.phase("wait")[0] == 1
    assert exported.value("dbwatch.checkouts.overflow") == 1
    assert exported.value("dbwatch.connections.closed", dbwatch_reason="overflow") == 1
    [use] = exported.metrics()["db.client.connection.use_time"].data.data_points
    assert isinstance(use, HistogramDataPoint)
    assert use.sum == pytest.approx(numbers("dbwatch_hold_seconds_sum"))
    assert use.explicit_bounds == METRICS["dbwatch_hold_seconds"].buckets
    engine.dispose()


def test_every_metric_that_has_a_name_in_opentelemetry_is_exported_under_it(exported: Exported) -> None:
    numbers = Numbers()
    engine = create_engine("sqlite://", poolclass=QueuePool)
    dbwatch.watch(engine, name="primary")
    visit(engine)
    engine.dispose()
    found = exported.metrics()
    for metric in METRICS.values():
        # A route's series is born with its first request, and SQLite has no server.
        if metric.otel and "route" not in metric.labels and "server" not in metric.name:
            assert metric.otel in found, metric.name
            if metric.kind == "counter":
                assert exported.value(metric.otel) == pytest.approx(numbers(metric.name))
    for name in found:
        assert name.startswith(("db.client.connection.", "dbwatch."))


def test_an_unlimited_pool_has_no_maximum(exported: Exported) -> None:
    engine = create_engine("sqlite://", poolclass=NullPool)
    dbwatch.watch(engine, name="unlimited")
    visit(engine)
    assert math.isinf(dbwatch.snapshot()[0].limit)
    found = exported.metrics()
    assert "db.client.connection.max" not in found or not found["db.client.connection.max"].data.data_points
    assert exported.value("db.client.connection.use_time") == 1


def test_a_second_collection_is_as_fresh_as_the_first(exported: Exported) -> None:
    engine = create_engine("sqlite://", poolclass=QueuePool)
    for visits in (1, 2, 3):
        visit(engine)
        assert exported.value("db.client.connection.use_time") == visits
        assert exported.value("dbwatch.connections.opened") == 1
    engine.dispose()


def test_providers_that_come_after_the_app_was_built_are_found_at_the_first_checkout(
    configure: Configure,
) -> None:
    engine = create_engine("sqlite://", poolclass=QueuePool)
    runtime._start_anew()  # as in a worker that was just forked
    assert TELEMETRY.metrics is None
    exported = configure()
    visit(engine)
    visit(engine)
    assert TELEMETRY.metrics is not None
    assert exported.value("dbwatch.connections.opened") == 1
    assert exported.value("db.client.connection.use_time") == 2
    engine.dispose()


def test_nothing_is_registered_twice(exported: Exported) -> None:
    for _ in range(3):
        dbwatch.DBWatchMiddleware(app=lambda *_: None)  # type: ignore[arg-type]
        runtime.join_opentelemetry()
    engine = create_engine("sqlite://", poolclass=QueuePool)
    visit(engine)
    assert exported.value("db.client.connection.wait_time") == 1
    assert exported.value("dbwatch.connections.opened") == 1
    engine.dispose()


def test_collecting_while_threads_check_out_loses_nothing_and_ends(exported: Exported) -> None:
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=4, connect_args={"check_same_thread": False})

    def work(_number: int) -> None:
        for _ in range(50):
            visit(engine)

    with ThreadPoolExecutor(4) as threads:
        working = threads.map(work, range(4))
        for _ in range(10):
            exported.metrics()
        list(working)
    assert exported.value("db.client.connection.wait_time") == 200
    assert exported.value("db.client.connection.use_time") == 200
    engine.dispose()
