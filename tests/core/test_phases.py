"""Connecting and pinging are phases of their own and no part of the wait."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import QueuePool, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from demo_app.postgres import EmbeddedPostgres
from tests.core.conftest import Connect
from tests.core.connections import Connections, soon
from tests.core.numbers import Numbers
from tests.servers.ports import free_port
from tests.servers.proxy import TCPProxy

DELAY = 0.1
#: A thread cannot be cancelled.
ASYNC_ONLY = pytest.mark.parametrize("through_proxy", ["psycopg_async", "asyncpg"], indirect=True)


@pytest.fixture
def proxy(postgres: EmbeddedPostgres) -> Any:
    with TCPProxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture(params=["psycopg", "psycopg_async", "asyncpg"])
async def through_proxy(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, proxy: TCPProxy, threads: ThreadPoolExecutor
) -> AsyncIterator[Connections]:
    """A pool of one connection with pre-ping, on every PostgreSQL driver, through the proxy."""
    url = postgres.url(request.param).replace(str(postgres.port), str(proxy.port))
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_pre_ping": True}
    if request.param == "psycopg":
        connections = Connections(create_engine(url, **options), threads)
    else:
        connections = Connections(create_async_engine(url, **options), threads)
    yield connections
    await connections.dispose()


async def test_a_slow_network_makes_connecting_slow_and_nobody_wait(
    through_proxy: Connections, proxy: TCPProxy, numbers: Numbers
) -> None:
    proxy.latency = 0.02  # Connecting takes a dozen round trips.
    asked = perf_counter()
    async with through_proxy.taken():
        at_most = perf_counter() - asked
        proxy.latency = 0.0
    count, seconds = numbers.phase("connect")
    assert count == 1
    assert 2 * 0.02 <= seconds <= at_most
    assert numbers.phase("wait") == (0, 0)
    assert numbers("dbwatch_connections_opened_total") == 1


async def test_a_slow_ping_is_no_wait(through_proxy: Connections, proxy: TCPProxy, numbers: Numbers) -> None:
    async with through_proxy.taken():
        pass
    connected = numbers.phase("connect")
    assert numbers.phase("ping") == (0, 0)
    proxy.latency = DELAY
    asked = perf_counter()
    async with through_proxy.taken():
        at_most = perf_counter() - asked
        proxy.latency = 0.0
    count, seconds = numbers.phase("ping")
    assert count == 1
    assert DELAY <= seconds <= at_most
    assert numbers.phase("wait") == (0, 0)
    assert numbers.phase("connect") == connected
    assert numbers("dbwatch_pre_ping_failures_total") == 0


async def test_a_wait_and_the_slow_ping_after_it_are_told_apart(
    through_proxy: Connections, proxy: TCPProxy, numbers: Numbers
) -> None:
    async with through_proxy.taken():
        asked = perf_counter()
        waiter = asyncio.create_task(through_proxy.take())
        await soon(lambda: numbers.snapshot().waiters == 1)
        await asyncio.sleep(0.05)
        # The connection will be in the queue at once; what the waiter does next is to ping it through the slow network.
        proxy.latency = DELAY
    served = await waiter
    total = perf_counter() - asked
    proxy.latency = 0.0
    await through_proxy.give_back(served)
    (waits, waited), (pings, pinged) = numbers.phase("wait"), numbers.phase("ping")
    assert (waits, pings) == (1, 1)
    assert waited >= 0.05
    assert pinged >= DELAY
    assert waited + pinged <= total


async def test_a_failed_ping_and_the_connect_after_it_are_phases_of_one_checkout(
    through_proxy: Connections, proxy: TCPProxy, numbers: Numbers
) -> None:
    async with through_proxy.taken():
        pass
    proxy.reset()
    async with through_proxy.taken():
        assert numbers.snapshot().used == 1
    assert numbers("dbwatch_pre_ping_failures_total") == 1
    assert numbers.phase("ping")[0] == 1
    assert numbers.phase("connect")[0] == 2
    assert numbers.checkouts("ok") == 2
    assert numbers.closed() == {"pre_ping": 1}
    assert numbers("dbwatch_connect_errors_total") == 0


@ASYNC_ONLY
async def test_a_ping_that_is_cancelled_loses_no_connection(
    through_proxy: Connections, proxy: TCPProxy, numbers: Numbers
) -> None:
    async with through_proxy.taken():
        pass
    proxy.latency = 0.5
    asking = asyncio.create_task(through_proxy.take())
    await asyncio.sleep(DELAY)
    proxy.latency = 0.0  # The ping is still under way, but the driver's request to cancel it is not held up.
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert numbers.checkouts("cancelled") == 1
    assert numbers.phase("ping")[1] >= DELAY / 2
    assert numbers.snapshot().used == 0
    async with through_proxy.taken():
        assert numbers.snapshot().used == 1


@ASYNC_ONLY
async def test_a_connect_that_is_cancelled_is_no_connect_error(
    through_proxy: Connections, proxy: TCPProxy, numbers: Numbers
) -> None:
    proxy.stall()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(DELAY):
            await through_proxy.take()
    proxy.restore()
    assert numbers.checkouts("cancelled") == 1
    assert numbers("dbwatch_connect_errors_total") == 0
    assert numbers.phase("connect")[1] >= DELAY / 2
    async with through_proxy.taken():
        pass
    assert numbers.snapshot().used == 0


async def test_a_connect_that_is_refused_is_an_error_and_no_timeout(
    through_proxy: Connections, proxy: TCPProxy, numbers: Numbers
) -> None:
    proxy.refuse()
    with pytest.raises((OperationalError, OSError)):
        await through_proxy.take()
    assert numbers.checkouts("error") == numbers("dbwatch_connect_errors_total") == 1
    assert numbers("dbwatch_checkout_timeouts_total") == 0
    assert numbers("dbwatch_connections_opened_total") == 0
    assert numbers.snapshot().used == 0
    proxy.restore()
    async with through_proxy.taken():
        assert numbers.snapshot().used == 1


async def test_a_listener_that_delays_connecting_delays_nothing_else(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0)

    @event.listens_for(connections.sync_engine, "do_connect")
    def slow(*_: object) -> None:
        time.sleep(DELAY)

    async with connections.taken():
        pass
    async with connections.taken():
        pass
    assert numbers.phase("connect")[0] == 1
    assert numbers.phase("connect")[1] >= DELAY
    assert numbers.phase("wait") == numbers.phase("ping") == (0, 0)


def test_a_slow_creator_function_is_a_slow_connect(tmp_path: Path, numbers: Numbers) -> None:
    def slow() -> sqlite3.Connection:
        time.sleep(DELAY)
        return sqlite3.connect(tmp_path / "test.db", check_same_thread=False)

    engine = create_engine("sqlite://", creator=slow, poolclass=QueuePool)
    for _ in range(2):
        engine.connect().close()
    engine.dispose()
    count, seconds = numbers.phase("connect")
    assert count == 1
    assert seconds >= 0.9 * DELAY  # By the wall clock: with creator= there is no event at the start.
    assert numbers.phase("wait") == (0, 0)


def test_a_creator_function_that_raises_is_a_connect_error(numbers: Numbers) -> None:
    def broken() -> sqlite3.Connection:
        raise OSError("no route to host")

    engine = create_engine("sqlite://", creator=broken, poolclass=QueuePool)
    for _ in range(2):
        with pytest.raises(OSError, match="no route"):
            engine.connect()
    assert numbers("dbwatch_connect_errors_total") == numbers.checkouts("error") == 2
    assert numbers.snapshot().used == 0


async def test_a_database_that_is_down_from_the_start_is_a_connect_error(
    connect: Connect, numbers: Numbers, threads: ThreadPoolExecutor
) -> None:
    template = connect()
    url = template.sync_engine.url
    url = url.set(port=free_port()) if url.host else url.set(database="/nowhere/at/all.db")
    connections = Connections(create_engine(url) if template.is_sync else create_async_engine(url), threads)
    with pytest.raises((OperationalError, OSError)):
        await connections.take()
    assert numbers("dbwatch_connect_errors_total") == 1
    assert numbers.checkouts("error") == 1
    assert numbers("dbwatch_pool_connections") == 0
