"""A connection that the garbage collector reclaims is counted as such, unless it was counted already."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from demo_app.postgres import EmbeddedPostgres
from tests.core.conftest import Connect
from tests.core.connections import Connections
from tests.core.leaking import settled, visiting, watched_app
from tests.core.numbers import Numbers

pytestmark = pytest.mark.filterwarnings(
    # What SQLAlchemy, the drivers and Python themselves say about a connection that was dropped.
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(autouse=True)
def only_when_told() -> Iterator[None]:
    """The garbage collector runs when the test says so."""
    gc.disable()
    yield
    gc.enable()


async def collect() -> None:
    gc.collect()
    await asyncio.sleep(0.05)  # A driver closes a terminated connection in the next rounds of the loop.
    gc.collect()


async def drop(connections: Connections, statement: str = "") -> None:
    """Take a connection and forget it."""
    connection = await connections.take()
    if statement:
        await connections.execute(connection, statement)
    del connection


async def test_a_dropped_connection_is_counted_as_reclaimed(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=1)
    await drop(connections, "SELECT 1")
    await drop(connections, "SELECT 1")
    await collect()
    assert numbers.leaks("gc") == 2
    assert numbers.leaks("request_end") == 0
    assert numbers("dbwatch_hold_seconds_count") == 2
    assert numbers("dbwatch_leaks_returned_total") == 0
    assert numbers("dbwatch_route_events_total", event="leak", route="(none)") == 2
    snapshot = numbers.snapshot()
    assert (snapshot.used, snapshot.leaked, snapshot.overflow) == (0, 0, 0)
    # A sync connection goes back to the pool, which has room for one; an async one can only be terminated.
    assert snapshot.idle == (1 if connections.is_sync else 0)
    assert numbers.closed() == ({"overflow": 1} if connections.is_sync else {"gc": 2})
    async with connections.taken(2):  # No slot of the pool was lost.
        assert numbers.snapshot().used == 2


async def test_a_connection_that_was_never_used_is_reclaimed_at_once(connect: Connect, numbers: Numbers) -> None:
    connections = connect()
    await drop(connections)
    await collect()
    assert numbers.leaks("gc") == 1
    assert numbers.snapshot().used == 0


async def test_a_connection_reclaimed_during_its_request_is_counted_with_its_route(
    connect: Connect, numbers: Numbers
) -> None:
    connections, app = connect(), watched_app()

    @app.get("/drops/{number}")
    async def drops(number: int) -> None:
        await drop(connections, "SELECT 1")
        await collect()

    async with visiting(app) as client:
        await client.get("/drops/1")
    await settled()
    assert numbers.leaks("gc") == 1
    assert numbers.leaks("request_end") == 0
    assert numbers("dbwatch_route_events_total", event="leak", route="/drops/{number}") == 1
    assert numbers.snapshot().used == 0


async def test_a_leak_counted_at_the_end_of_its_request_is_not_counted_again_when_reclaimed(
    connect: Connect, numbers: Numbers
) -> None:
    connections, app = connect(), watched_app()

    @app.get("/drops")
    async def drops() -> None:
        connection = await connections.take()
        cycle: list[Any] = [connection]  # It stays out until the collector runs.
        cycle.append(cycle)

    async with visiting(app) as client:
        await client.get("/drops")
        await settled()
        assert numbers.leaks("request_end") == 1
        assert numbers.snapshot().leaked == 1
        await collect()
    assert numbers.leaks("request_end") == 1
    assert numbers.leaks("gc") == 0
    assert numbers("dbwatch_leaks_returned_total") == 1
    assert numbers("dbwatch_route_events_total", event="leak") == 1
    assert (numbers.snapshot().used, numbers.snapshot().leaked) == (0, 0)


async def test_a_session_dropped_by_its_endpoint_is_counted_once_whenever_the_collector_runs(
    tmp_path: Path, numbers: Numbers
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", max_overflow=-1)
    app = watched_app()

    @app.get("/")
    def read() -> int:
        return int(Session(engine).scalar(text("SELECT 7")) or 0)

    gc.enable()
    async with visiting(app) as client:
        for _ in range(5):
            answers = await asyncio.gather(*[client.get("/") for _ in range(40)])
            assert {answer.json() for answer in answers} == {7}
    await settled()
    await collect()
    assert numbers.leaks("gc") + numbers.leaks("request_end") == 200
    assert numbers("dbwatch_route_events_total", event="leak", route="/") == 200
    assert numbers("dbwatch_leaks_returned_total") == numbers.leaks("request_end")
    assert numbers("dbwatch_hold_seconds_count") == 200
    assert numbers.snapshot().used == 0
    engine.dispose()


def test_connections_reclaimed_in_another_thread_are_counted(postgres: EmbeddedPostgres, numbers: Numbers) -> None:
    engine = create_engine(postgres.url())
    dropped: list[Any] = [engine.connect()]
    dropped[0].execute(text("SELECT 1"))
    dropped.clear()
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()
    assert numbers.leaks("gc") == 1
    assert numbers.snapshot().idle == 1
    engine.dispose()


def test_a_connection_that_is_closed_and_then_collected_is_no_leak(
    postgres: EmbeddedPostgres, numbers: Numbers
) -> None:
    engine = create_engine(postgres.url())
    for _ in range(3):
        connection = engine.connect()
        connection.execute(text("SELECT 1"))
        connection.close()
        del connection
        gc.collect()
    assert numbers("dbwatch_leaks_total") == 0
    assert numbers("dbwatch_hold_seconds_count") == 3
    engine.dispose()


def test_a_dropped_engine_takes_its_connections_with_it(tmp_path: Path, numbers: Numbers) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    with engine.connect(), engine.connect():
        pass
    assert numbers.snapshot().idle == 2
    del engine
    gc.collect()
    assert numbers.closed() == {"gc": 2}
    assert numbers("dbwatch_leaks_total") == 0
    assert numbers.labels("dbwatch_pool_connections", "pool") == set()
