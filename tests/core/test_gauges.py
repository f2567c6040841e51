"""What is out, free, above size, and how long: right at every moment."""

import asyncio
import math
from time import perf_counter

import dbwatch
from dbwatch.pools import POOLS
from dbwatch.records import PEAK_SLOT_SECONDS, PEAK_SLOTS
from tests.core.conftest import Connect
from tests.core.numbers import Numbers


def gauges(numbers: Numbers) -> dict[str, float]:
    """The gauges of connections by short names."""
    return {
        "used": numbers("dbwatch_pool_connections", state="used"),
        "idle": numbers("dbwatch_pool_connections", state="idle"),
        "overflow": numbers("dbwatch_pool_overflow_connections"),
        "waiters": numbers("dbwatch_pool_waiters"),
        "leaked": numbers("dbwatch_pool_leaked_connections"),
    }


async def test_used_idle_and_overflow_are_right_at_every_step(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=2, max_overflow=2)
    nothing = {"used": 0.0, "idle": 0.0, "overflow": 0.0, "waiters": 0.0, "leaked": 0.0}
    assert gauges(numbers) == nothing
    assert (numbers("dbwatch_pool_size"), numbers("dbwatch_pool_limit")) == (2, 4)
    out = []
    for used in (1, 2, 3, 4):
        out.append(await connections.take())
        assert gauges(numbers) == nothing | {"used": used, "overflow": max(0, used - 2)}
    assert numbers("dbwatch_overflow_checkouts_total") == 2
    for used in (3, 2, 1, 0):
        await connections.give_back(out.pop())
        # Two fit into the pool; those that come back after them are closed.
        idle = min(2, 4 - used)
        assert gauges(numbers) == nothing | {"used": used, "idle": idle, "overflow": max(0, used - 2)}
    assert numbers.closed() == {"overflow": 2}
    assert numbers("dbwatch_connections_opened_total") == 4
    async with connections.taken(2):
        assert gauges(numbers) == nothing | {"used": 2}
    assert numbers("dbwatch_overflow_checkouts_total") == 2


async def test_the_peak_of_used_connections_outlives_the_connections(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=3, max_overflow=2)
    async with connections.taken(4):
        assert numbers("dbwatch_pool_used_peak_connections") == 4
    async with connections.taken(1):
        assert numbers("dbwatch_pool_used_peak_connections") == 4
    assert numbers("dbwatch_pool_used_peak_connections") == 4


async def test_a_peak_is_forgotten_after_two_minutes(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=3)
    now = perf_counter()
    async with connections.taken(3):
        pass
    (pool,) = POOLS.watched()
    window = PEAK_SLOT_SECONDS * PEAK_SLOTS
    assert window == 120
    assert pool.used_peak(now + window - PEAK_SLOT_SECONDS) == 3
    assert pool.used_peak(now + window + PEAK_SLOT_SECONDS) == 0


async def test_the_oldest_checkout_is_the_one_that_is_out_the_longest(connect: Connect, numbers: Numbers) -> None:
    connections = connect()
    assert numbers("dbwatch_pool_oldest_checkout_seconds") == 0
    asked = perf_counter()
    first = await connections.take()
    taken = perf_counter()
    await asyncio.sleep(0.05)
    slept = perf_counter()
    async with connections.taken():
        before = perf_counter()
        assert before - taken <= numbers("dbwatch_pool_oldest_checkout_seconds") <= perf_counter() - asked
        await connections.give_back(first)
        assert numbers("dbwatch_pool_oldest_checkout_seconds") <= perf_counter() - slept
    assert numbers("dbwatch_pool_oldest_checkout_seconds") == 0


async def test_a_pool_without_a_bound_has_an_infinite_limit(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=-1, pool_timeout=7)
    assert numbers("dbwatch_pool_limit") == math.inf
    assert numbers("dbwatch_pool_timeout_seconds") == 7
    async with connections.taken(3):
        assert gauges(numbers)["overflow"] == 2
    assert gauges(numbers)["overflow"] == 0


async def test_a_pool_of_size_zero_keeps_connections_without_bound(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=0)
    async with connections.taken(3):
        assert gauges(numbers)["used"] == 3
    assert gauges(numbers)["used"] == 0
    assert gauges(numbers)["idle"] == connections.pool.checkedin()  # type: ignore[attr-defined]


async def test_holders_say_what_their_connections_do(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=1)
    async with connections.taken(2) as (first, _second):
        await connections.execute(first, "SELECT 1")
        holders = numbers.snapshot().holders
        assert [holder.statements for holder in holders] == [1, 0]
        assert [holder.executing for holder in holders] == [False, False]
        assert [holder.overflow for holder in holders] == [False, True]
        assert holders[0].age_seconds >= holders[1].age_seconds
    assert numbers.snapshot().holders == ()


async def test_a_snapshot_lists_pools_that_nobody_has_used_yet(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=3)
    assert connections.pool.checkedout() == 0  # type: ignore[attr-defined]
    (pool,) = dbwatch.snapshot()
    assert (pool.size, pool.used, pool.idle) == (3, 0, 0)
    assert numbers("dbwatch_checkout_seconds_count", pool=pool.name) == 0
    assert numbers.labels("dbwatch_leaks_total", "kind") == {"request_end", "gc"}
