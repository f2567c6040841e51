import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from demo_app.postgres import EmbeddedPostgres
from tests.core.conftest import Connect
from tests.core.connections import soon
from tests.core.numbers import Numbers

WAIT = 0.15


def waiters_are(numbers: Numbers, number: int) -> bool:
    return numbers.snapshot().waiters == number


async def test_a_wait_is_as_long_as_the_connections_were_held(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=2, max_overflow=0)
    async with connections.taken(2):
        asked = perf_counter()
        waiter = asyncio.create_task(connections.take())
        await soon(lambda: numbers.snapshot().waiters == 1)
        await asyncio.sleep(WAIT)
        assert numbers.phase("wait")[0] == 0
    served = await waiter
    at_most = perf_counter() - asked
    await connections.give_back(served)
    count, seconds = numbers.phase("wait")
    assert count == 1
    assert WAIT <= seconds <= at_most
    assert numbers("dbwatch_checkout_seconds_sum", outcome="ok") >= seconds
    assert numbers.checkouts("ok") == 3


async def test_a_full_pool_with_a_free_connection_makes_nobody_wait(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0)
    for _ in range(3):
        async with connections.taken():
            pass
    assert numbers.checkouts("ok") == 3
    assert numbers.phase("wait") == (0, 0)


async def test_every_waiter_is_counted_while_it_waits_and_none_afterwards(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0)
    waiting: list[asyncio.Task[None]] = []

    async def one() -> None:
        async with connections.taken():
            pass

    async with connections.taken():
        for number in range(1, 6):
            waiting.append(asyncio.create_task(one()))
            await soon(partial(waiters_are, numbers, number))
        assert numbers("dbwatch_pool_waiters") == 5
        assert numbers.snapshot().used == 1
    await asyncio.gather(*waiting)
    assert numbers("dbwatch_pool_waiters") == 0
    assert numbers.phase("wait")[0] == 5


async def test_the_oldest_waiter_is_as_old_as_its_wait(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0)
    async with connections.taken():
        asked = perf_counter()
        first = asyncio.create_task(connections.take())
        await soon(lambda: numbers.snapshot().waiters == 1)
        seen = perf_counter()
        await asyncio.sleep(0.05)
        second = asyncio.create_task(connections.take())
        await soon(lambda: numbers.snapshot().waiters == 2)
        before = perf_counter()
        oldest = numbers.snapshot().oldest_waiter_seconds
        assert before - seen <= oldest <= perf_counter() - asked
    for waiter in asyncio.as_completed([first, second]):
        await connections.give_back(await waiter)
    assert numbers.snapshot().oldest_waiter_seconds == 0


async def test_a_wait_that_times_out_is_counted_with_its_outcome(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0, pool_timeout=0.1)
    async with connections.taken():
        with pytest.raises(PoolTimeoutError):
            await connections.take()
        assert numbers("dbwatch_pool_waiters") == 0
        assert numbers.snapshot().used == 1
    assert numbers.checkouts("timeout") == numbers("dbwatch_checkout_timeouts_total") == 1
    assert numbers("dbwatch_checkout_seconds_sum", outcome="timeout") >= 0.09
    assert numbers.phase("wait")[0] == 1
    assert numbers.phase("wait")[1] >= 0.09
    assert numbers("dbwatch_connect_errors_total") == 0
    assert numbers("dbwatch_pool_timeout_seconds") == 0.1


async def test_a_wait_that_is_cancelled_is_counted_with_its_outcome(connect_async: Connect, numbers: Numbers) -> None:
    connections = connect_async(pool_size=1, max_overflow=0)
    async with connections.taken():
        waiters = [asyncio.create_task(connections.take()) for _ in range(3)]
        await soon(lambda: numbers.snapshot().waiters == 3)
        await asyncio.sleep(WAIT)
        for waiter in waiters[:2]:
            waiter.cancel()
        await asyncio.wait(waiters[:2])
        assert numbers("dbwatch_pool_waiters") == 1
        assert numbers.checkouts("cancelled") == 2
        assert numbers("dbwatch_checkout_seconds_sum", outcome="cancelled") >= 2 * WAIT
        assert numbers.phase("wait")[1] >= 2 * WAIT
    await connections.give_back(await waiters[2])
    assert numbers("dbwatch_pool_waiters") == 0
    assert numbers.checkouts("timeout") == numbers.checkouts("error") == 0
    assert numbers.snapshot().used == 0


async def test_an_apps_own_time_limit_on_a_wait_is_a_cancellation(connect_async: Connect, numbers: Numbers) -> None:
    connections = connect_async(pool_size=1, max_overflow=0)
    async with connections.taken():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connections.take()
    assert numbers.checkouts("cancelled") == 1
    assert numbers("dbwatch_checkout_timeouts_total") == 0


def test_under_contention_the_waits_of_all_threads_are_seen(
    postgres: EmbeddedPostgres, threads: ThreadPoolExecutor, numbers: Numbers
) -> None:
    # Connections are opened beforehand, so that a checkout is its wait and next to nothing else.
    engine = create_engine(postgres.url(), pool_size=2, max_overflow=0)
    first, second = engine.connect(), engine.connect()
    first.close()
    second.close()
    numbers_before = numbers("dbwatch_checkout_seconds_sum", outcome="ok")
    start = threading.Barrier(20)

    def work() -> None:
        start.wait()
        for _ in range(10):
            with engine.connect() as connection:
                connection.execute(text("SELECT pg_sleep(0.002)"))

    for done in [threads.submit(work) for _ in range(20)]:
        done.result(60)
    engine.dispose()
    in_checkout = numbers("dbwatch_checkout_seconds_sum", outcome="ok") - numbers_before
    assert numbers.phase("wait")[1] >= 0.9 * in_checkout


def test_a_queue_that_never_lets_anybody_wait_has_no_waits(postgres: EmbeddedPostgres, numbers: Numbers) -> None:
    engine = create_engine(postgres.url(), poolclass=QueuePool, pool_size=0, max_overflow=5)
    for _ in range(2):
        with engine.connect():
            pass
    engine.dispose()
    assert numbers.checkouts("ok") == 2
    assert numbers.phase("wait")[0] == 0
