"""An async checkout, hold and checkin cancelled at every single await point, one after the other."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.pool import AsyncAdaptedQueuePool

import dbwatch
from tests.bookkeeping.books import Books, internal_errors, open_new_books
from tests.bookkeeping.requests import RequestRunner
from tests.core.connections import soon
from tests.reliability.stepping import Stepped, run_until
from tests.servers.databases import AsyncDatabase

pytestmark = pytest.mark.filterwarnings(
    # What drivers say of connections that were cut off while they were being opened.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

LIMIT = 2
#: More await points than any of the pages has.
_MOST = 400
_STATEMENT = text("SELECT 1")

Page = Callable[["Desk"], Awaitable[None]]


class Desk:
    """An engine, and what a page knows of its own checkouts."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.asked = self.got = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[AsyncConnection]:
        self.asked += 1
        async with self.engine.connect() as connection:
            self.got += 1
            yield connection

    @asynccontextmanager
    async def all_taken(self) -> AsyncIterator[None]:
        """Hold as many connections as the pool allows."""
        async with AsyncExitStack() as stack:
            for _ in range(LIMIT):
                _taken = await stack.enter_async_context(self.taken())
            yield


async def core(desk: Desk) -> None:
    async with desk.taken() as connection:
        await connection.execute(_STATEMENT)
        await connection.commit()


async def uncommitted(desk: Desk) -> None:
    async with desk.taken() as connection:
        await connection.execute(_STATEMENT)


async def orm(desk: Desk) -> None:
    async with AsyncSession(desk.engine) as session:
        desk.asked += 1
        _connection = await session.connection()
        desk.got += 1
        await session.execute(_STATEMENT)
        await session.rollback()


async def stream(desk: Desk) -> None:
    async with desk.taken() as connection:
        async for _row in await connection.stream(text("SELECT 1 UNION SELECT 2")):
            await asyncio.sleep(0)


PAGES: tuple[Page, ...] = (core, uncommitted, orm, stream)


@pytest.fixture
def desk(async_database: AsyncDatabase) -> Desk:
    open_new_books()
    engine = async_database.engine(
        poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=1, pool_timeout=20, pool_pre_ping=True
    )
    dbwatch.watch(engine, "desk")
    return Desk(engine)


async def _settled(desk: Desk) -> None:
    """Wait until everything has come back: SQLAlchemy closes in a task of its own."""
    pool: Any = desk.engine.pool
    await soon(lambda: not pool.checkedout())


async def _everything_is_in_order(desk: Desk) -> None:
    books = Books("desk")
    pool = books.snapshot()
    assert (pool.used, pool.waiters, pool.leaked, pool.overflow, pool.holders) == (0, 0, 0, 0, ())
    outcomes = Counter(books.observed("dbwatch_checkout_seconds"))
    assert sum(outcomes.values()) == desk.asked
    assert outcomes["ok"] == desk.got == books.observed("dbwatch_hold_seconds")[""]
    assert outcomes["cancelled"] == desk.asked - desk.got
    opened, closed = (books.total(f"dbwatch_connections_{what}_total") for what in ("opened", "closed"))
    assert opened - closed == pool.idle
    assert dbwatch.findings() == ()
    assert internal_errors() == {}


@pytest.mark.parametrize("again", [False, True], ids=["once", "again-and-again"])
@pytest.mark.parametrize("warm", [False, True], ids=["new-connection", "idle-connection"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.__name__)
async def test_a_page_cancelled_at_any_await_point_loses_no_slot_and_leaves_the_books_in_order(
    desk: Desk, page: Page, warm: bool, again: bool, in_request: RequestRunner
) -> None:
    for at in itertools.count(1):
        if not warm:
            await desk.engine.dispose()
        stepped = await run_until(in_request(lambda: page(desk)), at, again=again)
        await _settled(desk)
        async with desk.all_taken():
            pass
        await _everything_is_in_order(desk)
        if not stepped.cancelled:
            break
        assert at < _MOST
    assert at > 2


async def test_a_checkout_cancelled_while_it_waits_or_just_when_it_is_served_loses_no_slot(
    desk: Desk, in_request: RequestRunner
) -> None:
    for turns in range(12):
        for gives_back_first in (True, False):
            async with desk.all_taken():
                waiting = asyncio.create_task(in_request(lambda: core(desk)))
                while not Books("desk").snapshot().waiters:
                    await asyncio.sleep(0)
                if not gives_back_first:
                    waiting.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await _settled(desk)
            async with desk.all_taken():
                pass
            await _everything_is_in_order(desk)


async def test_a_task_that_a_page_has_spawned_is_cancelled_at_any_await_point_and_not_accused(
    desk: Desk, in_request: RequestRunner
) -> None:
    async def work(finished: asyncio.Event) -> None:
        async with desk.taken() as connection:
            await finished.wait()
            await connection.execute(_STATEMENT)

    async def spawn_until(at: int) -> bool:
        finished, tasks, got = asyncio.Event(), list[asyncio.Task[Stepped]](), desk.got

        async def page() -> None:
            tasks.append(asyncio.create_task(run_until(work(finished), at)))
            await soon(lambda: tasks[0].done() or desk.got > got)

        await in_request(page)
        finished.set()
        return (await tasks[0]).cancelled

    for at in itertools.count(1):
        cancelled = await spawn_until(at)
        await _settled(desk)
        await _everything_is_in_order(desk)
        if not cancelled:
            break
    assert at > 2


async def test_a_cancelled_page_that_really_leaks_is_accused(desk: Desk, in_request: RequestRunner) -> None:
    kept: list[AsyncConnection] = []
    executed = asyncio.Event()

    async def leak() -> None:
        kept.append(await desk.engine.connect())
        await kept[0].execute(_STATEMENT)
        executed.set()
        await asyncio.sleep(60)

    page = asyncio.create_task(in_request(leak))
    await executed.wait()
    page.cancel()
    await asyncio.wait([page])
    assert await asyncio.to_thread(dbwatch.settle)
    assert [finding.finding for finding in dbwatch.findings()] == ["leaked_connection"]
    await kept[0].close()


@pytest.mark.parametrize("gives_back", [True, False])
async def test_a_task_that_uses_the_connection_when_its_page_ends_decides_at_its_own_end_whether_it_is_a_leak(
    desk: Desk, gives_back: bool, in_request: RequestRunner
) -> None:
    kept: list[AsyncConnection] = []
    tasks: list[asyncio.Task[None]] = []

    async def finish(connection: AsyncConnection) -> None:
        for _ in range(100):
            await connection.execute(_STATEMENT)
        if gives_back:
            await connection.close()

    async def hand_over() -> None:
        connection = await desk.engine.connect()
        kept.append(connection)
        tasks.append(asyncio.create_task(finish(connection)))
        while not any(holder.executing for holder in Books("desk").snapshot().holders):
            await asyncio.sleep(0)

    await in_request(hand_over)
    assert dbwatch.findings() == ()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert [finding.finding for finding in dbwatch.findings()] == ([] if gives_back else ["leaked_connection"])
    await kept[0].close()
