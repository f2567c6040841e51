import asyncio
import gc
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

import dbwatch
from dbwatch import DBWatchMiddleware, PoolSnapshot
from dbwatch.ledger import LEDGER
from tests.app.calls import call
from tests.app.middlewares import Query
from tests.app.scrape import counted


def pool(name: str) -> PoolSnapshot:
    [found] = [snapshot for snapshot in dbwatch.snapshot() if snapshot.name == name]
    return found


async def in_request(endpoint: Callable[[], Any]) -> FastAPI:
    """Runs the endpoint as ``GET /work/{number}``."""
    app = FastAPI()
    app.add_api_route("/work/{number}", endpoint)
    app.add_middleware(DBWatchMiddleware)
    assert (await call(app, "/work/7")).status == 200
    return app


def test_outside_a_request_there_is_no_current_request() -> None:
    assert dbwatch.current_request() is None


async def test_the_current_request_adds_up_what_it_has_done_so_far(engine: AsyncEngine, query: Query) -> None:
    seen: list[dbwatch.RequestTotals] = []

    def look() -> None:
        totals = dbwatch.current_request()
        assert totals is not None
        seen.append(totals)

    async def endpoint() -> None:
        look()
        await query()
        look()
        async with engine.connect() as connection:
            for _ in range(3):
                await connection.execute(text("SELECT 1"))
            await asyncio.sleep(0.02)
            look()
        look()

    await in_request(endpoint)
    assert dbwatch.current_request() is None
    assert {(totals.method, totals.route) for totals in seen} == {("GET", "/work/{number}")}
    assert [totals.checkouts for totals in seen] == [0, 1, 2, 2]
    assert [totals.statements for totals in seen] == [0, 1, 4, 4]
    assert [totals.open_connections for totals in seen] == [0, 0, 1, 0]
    for earlier, later in pairwise(seen):
        assert earlier.age_seconds < later.age_seconds
        assert earlier.hold_seconds < later.hold_seconds
        assert earlier.executing_seconds <= later.executing_seconds
        assert earlier.checkout_seconds <= later.checkout_seconds
    end = seen[-1]
    assert end.hold_seconds >= 0.02
    assert 0 < end.executing_seconds <= end.hold_seconds <= end.age_seconds
    assert end.wait_seconds == 0


async def test_a_thread_of_the_request_sees_the_request_and_other_threads_do_not() -> None:
    seen: dict[str, str | None] = {}

    def look(where: str) -> None:
        totals = dbwatch.current_request()
        seen[where] = totals.route if totals else None

    async def endpoint() -> None:
        await asyncio.to_thread(look, "thread of the request")
        other = threading.Thread(target=look, args=["other thread"])
        other.start()
        await asyncio.to_thread(other.join)

    await in_request(endpoint)
    assert seen == {"thread of the request": "/work/{number}", "other thread": None}


async def test_a_request_that_waits_shows_its_wait(engine: AsyncEngine) -> None:
    seen: list[dbwatch.RequestTotals] = []
    taken = [await engine.connect() for _ in range(15)]
    assert pool("shop").oldest_waiter_seconds == 0

    async def give_back() -> None:
        while pool("shop").waiters == 0:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert 0.04 < pool("shop").oldest_waiter_seconds < 60
        for connection in taken:
            await connection.close()

    async def endpoint() -> None:
        async with engine.connect():
            totals = dbwatch.current_request()
            assert totals is not None
            seen.append(totals)

    await asyncio.gather(in_request(endpoint), give_back())
    [totals] = seen
    assert 0.05 <= totals.wait_seconds <= totals.checkout_seconds
    assert pool("shop").waiters == 0


def test_a_snapshot_knows_a_pool_nobody_has_used(thread_engine: Engine) -> None:
    dbwatch.watch(thread_engine, name="unused")  # a name of its own: engines of one name are one pool
    snapshot = pool("unused")
    assert (snapshot.used, snapshot.idle, snapshot.waiters, snapshot.leaked, snapshot.overflow) == (0, 0, 0, 0, 0)
    assert (snapshot.size, snapshot.limit, snapshot.timeout_seconds) == (5, 15, 30.0)
    assert snapshot.holders == ()
    assert snapshot.attributes["pool_class"] == "QueuePool"


def test_a_snapshot_tells_used_idle_overflow_peak_and_who_holds(thread_engine: Engine) -> None:
    taken = [thread_engine.connect() for _ in range(7)]
    taken[0].execute(text("SELECT 1"))
    full = pool("back office")
    assert (full.used, full.idle, full.overflow, full.used_peak) == (7, 0, 2, 7)
    assert [holder.overflow for holder in full.holders] == [False] * 5 + [True] * 2
    assert [holder.statements for holder in full.holders] == [1] + [0] * 6
    assert {(holder.method, holder.route) for holder in full.holders} == {("(none)", "(none)")}
    assert full.oldest_checkout_seconds == max(holder.age_seconds for holder in full.holders)
    for connection in taken:
        connection.close()
    empty = pool("back office")
    assert (empty.used, empty.idle, empty.overflow, empty.used_peak) == (0, 5, 0, 7)
    assert (empty.oldest_checkout_seconds, empty.holders) == (0, ())


async def test_a_holder_is_known_by_its_route_while_the_request_runs(engine: AsyncEngine) -> None:
    seen: list[dbwatch.Holder] = []

    async def endpoint() -> None:
        async with engine.connect():
            seen.extend(pool("shop").holders)

    await in_request(endpoint)
    assert [(holder.method, holder.route, holder.leaked) for holder in seen] == [("GET", "/work/{number}", False)]


def test_watch_names_an_engine_and_renames_it(thread_engine: Engine) -> None:
    dbwatch.watch(thread_engine, name="  replica ")
    thread_engine.connect().close()
    assert pool("replica").idle == 1
    assert counted().value("dbwatch_hold_seconds_count", pool="replica") == 1


def test_watch_takes_an_async_engine_and_its_sync_engine_for_one(engine: AsyncEngine) -> None:
    dbwatch.watch(engine, name="one")
    dbwatch.watch(engine.sync_engine, name="one")
    assert [snapshot.name for snapshot in dbwatch.snapshot()].count("one") == 1


@pytest.mark.parametrize("thing", [None, "sqlite://", object(), Engine])
def test_watch_refuses_what_is_no_engine(thing: Any) -> None:
    with pytest.raises(TypeError, match="takes a SQLAlchemy Engine or AsyncEngine, not "):
        dbwatch.watch(thing, name="shop")


@pytest.mark.parametrize("name", ["", "   ", None, 7, b"shop"])
def test_watch_refuses_what_is_no_name(thread_engine: Engine, name: Any) -> None:
    with pytest.raises(ValueError, match=r"takes a name like 'primary', not "):
        dbwatch.watch(thread_engine, name=name)


def test_install_can_be_called_again_and_counts_nothing_twice(thread_engine: Engine) -> None:
    for _ in range(3):
        dbwatch.install()
    thread_engine.connect().close()
    assert counted().value("dbwatch_hold_seconds_count", pool="back office") == 1


def test_flush_adds_up_what_is_pending(thread_engine: Engine) -> None:
    thread_engine.connect().close()
    dbwatch.flush()  # what the first checkout sets going, as the advice on the settings, looks at every engine
    thread_engine.connect().close()
    assert len(LEDGER.facts) > 0
    dbwatch.flush()
    assert len(LEDGER.facts) == 0


def test_with_nothing_pending_settle_returns_at_once() -> None:
    assert dbwatch.settle(0)
    assert dbwatch.settle()


async def test_settle_waits_for_the_owner_of_a_connection_that_is_still_out(engine: AsyncEngine) -> None:
    kept: list[Any] = []
    release, taken = asyncio.Event(), asyncio.Event()

    async def keep() -> None:
        kept.append(await engine.connect())
        taken.set()
        await release.wait()

    async def endpoint() -> None:
        kept.append(asyncio.create_task(keep()))
        await taken.wait()

    await in_request(endpoint)
    assert not await asyncio.to_thread(dbwatch.settle, 0.05)
    assert counted().sum("dbwatch_leaks_total") == 0
    release.set()
    assert await asyncio.to_thread(dbwatch.settle, 30.0)
    assert counted().value("dbwatch_leaks_total", pool="shop", kind="request_end") == 1
    await kept[1].close()
    gc.collect()
    assert counted().value("dbwatch_leaks_total", pool="shop", kind="gc") == 0
    assert counted().value("dbwatch_leaks_returned_total", pool="shop") == 1


def test_settle_refuses_what_is_no_time() -> None:
    with pytest.raises(TypeError):
        dbwatch.settle("soon")  # type: ignore[arg-type]
