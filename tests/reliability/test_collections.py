"""The garbage collector finds a leaked connection at any line of ours, and calls our listeners in the middle of it."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import dbwatch
from dbwatch.ledger import LEDGER
from tests.bookkeeping.books import Books, internal_errors
from tests.bookkeeping.requests import RequestRunner
from tests.reliability.any_line import Work, at_line, leave_to_the_collector, lines_of

#: A deadlock would last for ever.
pytestmark = pytest.mark.timeout(120, method="thread")


def collect_and_let_another_thread_fold() -> None:
    """A finalizer writes a log record, and may lose the interpreter to another thread while it does."""
    gc.collect()
    thread = Thread(target=LEDGER.try_fold)
    thread.start()
    thread.join()


def assert_each_is_counted_once(books: Books, requests: int) -> None:
    """Each of the requests has leaked one connection, and all are back."""
    leaks = books.counted("dbwatch_leaks_total")
    assert leaks["gc"] + leaks["request_end"] == requests
    assert books.total("dbwatch_leaks_returned_total") == leaks["request_end"]
    assert min(leaks["gc"], leaks["request_end"]) > 2, "each way to find it was met"
    assert books.snapshot().leaked == 0
    assert internal_errors() == {}


def test_the_leak_of_a_request_is_counted_once_at_whichever_line_of_ours_it_is_collected(work: Work) -> None:
    books = Books("work")
    numbers = lines_of(work.leaking_request)
    gc.collect()
    for number in numbers:
        with at_line(number, collect_and_let_another_thread_fold):
            work.leaking_request()
        gc.collect()
        dbwatch.findings()
    assert_each_is_counted_once(books, work.requests)


@pytest.mark.parametrize(
    "name", ["request", "timeout", "broken", "thrown_away", "disposed", "new_engine", "scrape", "reports"]
)
def test_a_leaked_connection_that_is_collected_at_any_line_of_ours_is_counted_once_and_hangs_nobody(
    name: str, work: Work
) -> None:
    books = Books("work")
    do: Callable[[], None] = getattr(work, name)
    numbers = lines_of(do)
    collected = 0
    for number in numbers:
        work.leak()
        with at_line(number, gc.collect) as now:
            do()
        collected += now[0] >= number
        gc.collect()
        assert work.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert collected > len(numbers) * 0.8
    pool = books.snapshot()
    assert (pool.used, pool.waiters, pool.leaked, pool.overflow) == (0, 0, 0, 0)
    assert books.counted("dbwatch_leaks_total")["gc"] == len(numbers)
    checkouts = books.observed("dbwatch_checkout_seconds")
    assert checkouts["ok"] == books.observed("dbwatch_hold_seconds")[""]
    opened, closed = (books.total(f"dbwatch_connections_{what}_total") for what in ("opened", "closed"))
    if name != "disposed":  # what comes back to a pool that was disposed of goes with that pool
        assert opened - closed == pool.idle == len(work.server.open())
    assert internal_errors() == {}


@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning")
def test_the_leak_of_an_asynchronous_request_is_counted_once_at_whichever_line_of_ours_it_is_collected(
    work: Work, in_request: RequestRunner, tmp_path: Path
) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}", pool_size=2)
    dbwatch.watch(engine, "asynchronous")
    books = Books("asynchronous")
    requests = 0

    async def page() -> None:
        connection = await engine.connect()
        await connection.execute(text("SELECT 1"))
        leave_to_the_collector(connection)

    def leaking_request() -> None:
        nonlocal requests
        requests += 1

        async def run() -> None:
            await in_request(page)
            await asyncio.sleep(0.005)  # the verdict takes a few turns of the loop

        runner.run(run())

    with asyncio.Runner() as runner:
        for number in lines_of(leaking_request):
            with at_line(number, collect_and_let_another_thread_fold):
                leaking_request()
            gc.collect()
        dbwatch.findings()
        runner.run(engine.dispose())
    assert_each_is_counted_once(books, requests)
