"""The drivers that the other tests do not run on, and every driver when its connections are really cut."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.conftest import url_of
from tests.core.conftest import Connect
from tests.core.connections import AnyConnection, Connections, soon
from tests.core.leaking import Kept, settled, visiting, watched_app
from tests.core.numbers import Numbers
from tests.core.test_leaks_reclaimed import collect, drop
from tests.servers.databases import (
    ASYNC,
    MORE_ASYNC,
    MORE_SYNC,
    OLD_SQLALCHEMY,
    SYNC,
    AsyncDatabase,
    SyncDatabase,
    database_at,
)
from tests.servers.proxy import TCPProxy

pytestmark = pytest.mark.filterwarnings(
    # What SQLAlchemy, the drivers and Python themselves say about a connection that was dropped or cut.
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

#: Seconds that a connection is held or waited for.
HELD = 0.1


@pytest.fixture(params=[*MORE_SYNC, *MORE_ASYNC])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SyncDatabase | AsyncDatabase]:
    """Every driver of fewer tests in turn, in the place of the fixture of all core tests."""
    async with database_at(request.param, url_of(request.param, request, tmp_path)) as database:
        yield database


async def test_a_hold_and_its_statements_are_timed(connect: Connect, numbers: Numbers) -> None:
    connections = connect()
    async with connections.taken() as (connection,):
        await connections.execute(connection, "SELECT 1")
        await asyncio.sleep(HELD)
    assert numbers("dbwatch_hold_seconds_count") == numbers.checkouts("ok") == 1
    assert numbers("dbwatch_hold_seconds_sum") >= HELD
    assert numbers.activity("idle") >= HELD * 0.9
    assert 0 < numbers.activity("executing") < numbers("dbwatch_hold_seconds_sum") - HELD * 0.9
    assert numbers.phase("connect")[0] == numbers("dbwatch_connections_opened_total") == 1
    assert (numbers.snapshot().used, numbers.snapshot().idle) == (0, 1)


async def test_a_wait_is_as_long_as_the_connection_was_held(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0)
    async with connections.taken():
        waiter = asyncio.create_task(connections.take())
        await soon(lambda: numbers.snapshot().waiters == 1)
        await asyncio.sleep(HELD)
    await connections.give_back(await waiter)
    count, seconds = numbers.phase("wait")
    assert count == 1
    assert seconds >= HELD


async def test_a_wait_in_vain_is_a_timeout(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0, pool_timeout=HELD)
    async with connections.taken():
        with pytest.raises(PoolTimeoutError):
            await connections.take()
    assert numbers.checkouts("timeout") == numbers("dbwatch_checkout_timeouts_total") == 1
    assert numbers("dbwatch_checkout_seconds_sum", outcome="timeout") >= HELD * 0.9


async def test_a_leak_is_counted_at_the_end_of_its_request(connect: Connect, numbers: Numbers) -> None:
    engine, kept, app = connect().engine, Kept(), watched_app()

    @app.get("/items/{number}")
    async def lose(number: int) -> str:
        await kept.take(engine)
        return "lost"

    async with visiting(app) as client:
        assert (await client.get("/items/7")).status_code == 200
    await settled()
    assert numbers.leaks("request_end") == 1
    assert numbers("dbwatch_route_events_total", event="leak", route="/items/{number}") == 1
    await kept.give_back()
    assert numbers("dbwatch_leaks_returned_total") == 1


async def test_a_connection_that_the_garbage_collector_finds_is_counted(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0)
    await drop(connections, "SELECT 1")
    await collect()
    assert numbers.leaks("gc") == 1
    async with connections.taken():  # The only slot of the pool was not lost.
        assert numbers.snapshot().used == 1


class Cuttable:
    """An engine whose idle connections can be cut."""

    def __init__(self, connections: Connections, proxy: TCPProxy | None) -> None:
        self.connections = connections
        self._proxy = proxy

    async def use_and_cut(self) -> None:
        """Open a connection, give it back, and cut it: through the proxy, or by closing SQLite's file."""
        async with self.connections.taken() as (connection,):
            await self.connections.execute(connection, "SELECT 1")
            driver = await _driver_connection(connection)
        if self._proxy is not None:
            self._proxy.reset()
        elif self.connections.is_sync:
            driver.close()
        else:
            await driver.close()


async def _driver_connection(connection: AnyConnection) -> Any:
    if hasattr(connection, "get_raw_connection"):
        return (await connection.get_raw_connection()).driver_connection
    return connection.connection.driver_connection


@pytest.fixture(params=[*SYNC, *ASYNC, *MORE_SYNC, *MORE_ASYNC])
async def cuttable(
    request: pytest.FixtureRequest, tmp_path: Path, threads: ThreadPoolExecutor
) -> AsyncIterator[Cuttable]:
    """Every driver of all, with something between it and its server that cuts."""
    url = make_url(url_of(request.param, request, tmp_path))
    with ExitStack() as stack:
        proxy = None
        if url.port is not None:
            proxy = stack.enter_context(TCPProxy(url.port))
            url = url.set(port=proxy.port)
        async with database_at(request.param, url.render_as_string(hide_password=False)) as database:
            yield Cuttable(Connections(database.engine(pool_pre_ping=True), threads), proxy)


async def test_a_connection_that_was_cut_is_a_failed_ping_and_is_replaced(cuttable: Cuttable, numbers: Numbers) -> None:
    connections = cuttable.connections
    if OLD_SQLALCHEMY and not connections.is_sync and connections.sync_engine.dialect.name in ("mysql", "mariadb"):
        pytest.skip("this SQLAlchemy cannot ping an asynchronous driver of MySQL")
    await cuttable.use_and_cut()
    async with cuttable.connections.taken() as (connection,):
        await cuttable.connections.execute(connection, "SELECT 1")
    assert numbers("dbwatch_pre_ping_failures_total") == 1
    assert numbers.closed() == {"pre_ping": 1}
    assert numbers("dbwatch_connections_opened_total") == 2
    assert numbers.phase("ping")[0] >= 1
    assert (numbers.snapshot().used, numbers.snapshot().idle) == (0, 1)
