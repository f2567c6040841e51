"""The garbage collector finds a leaked connection at any line of ours, and calls our listeners in the middle of it."""

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import QueuePool, create_engine, exc, text

import dbwatch
from dbwatch import runtime
from dbwatch.ledger import LEDGER
from tests.bookkeeping.books import Books, internal_errors, open_new_books
from tests.bookkeeping.counted import CountedServer
from tests.bookkeeping.requests import RequestRunner

#: A deadlock would last for ever.
pytestmark = pytest.mark.timeout(120, method="thread")

#: At most so many lines of each piece of work are tried, evenly spread.
_LINES = 150
_OURS = str(Path(dbwatch.__file__).parent)


@contextmanager
def at_line(number: int, call: Callable[[], object]) -> Iterator[list[int]]:
    """Call something when this thread has reached so many lines of dbwatch; yields how many it has reached so far."""
    reached = [0]

    def in_frame(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            reached[0] += 1
            if reached[0] == number:
                call()
        return in_frame

    def begins(frame: FrameType, _event: str, _argument: Any) -> Any:
        return in_frame if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    sys.settrace(begins)
    try:
        yield reached
    finally:
        sys.settrace(before)


class Work:
    """An engine, and pieces of work that pass as much of dbwatch as possible, each with a connection or two."""

    def __init__(self, server: CountedServer, in_request: RequestRunner) -> None:
        arguments = {"factory": server.connect, "check_same_thread": False}
        options: dict[str, Any] = {"pool_size": 2, "max_overflow": 1, "pool_timeout": 0.0, "pool_pre_ping": True}
        self.engine = create_engine("sqlite://", poolclass=QueuePool, connect_args=arguments, **options)
        self.server = server
        self._in_request = in_request
        self._runner = asyncio.Runner()
        self._registry = CollectorRegistry()
        runtime.exposition(self._registry)

    def leak(self) -> None:
        """Leave a connection behind that only the garbage collector can find."""
        connection = self.engine.connect()
        cycle: list[Any] = [connection]
        cycle.append(cycle)

    def request(self) -> None:
        async def page() -> None:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
                connection.commit()

        self._runner.run(self._in_request(page))

    def leaking_request(self) -> None:
        async def page() -> None:
            self.leak()

        self._runner.run(self._in_request(page))

    def timeout(self) -> None:
        held = []
        try:
            while True:
                held.append(self.engine.connect())
        except exc.TimeoutError:
            pass
        for connection in held:
            connection.close()

    def broken(self) -> None:
        with self.engine.connect() as connection:
            proxy: Any = connection.connection
            proxy.driver_connection.break_down()
        self.engine.connect().close()

    def thrown_away(self) -> None:
        with self.engine.connect() as connection:
            connection.invalidate()
        with self.engine.connect() as connection:
            connection.detach()

    def disposed(self) -> None:
        self.engine.dispose()
        self.engine.connect().close()

    def new_engine(self) -> None:
        engine = create_engine("sqlite://")
        engine.connect().close()
        engine.dispose()

    def scrape(self) -> None:
        list(self._registry.collect())
        dbwatch.findings()

    def close(self) -> None:
        self.engine.dispose()
        self._runner.close()


@pytest.fixture
def work(in_request: RequestRunner) -> Iterator[Work]:
    open_new_books()
    server = CountedServer()
    work = Work(server, in_request)
    dbwatch.watch(work.engine, "work")
    gc.collect()
    gc.freeze()  # the tests collect often; they need not look at all that the test run has loaded
    gc.disable()
    yield work
    gc.enable()
    gc.unfreeze()
    work.close()
    server.close()


def collect_and_let_another_thread_fold() -> None:
    """A finalizer writes a log record, and may lose the interpreter to another thread while it does."""
    gc.collect()
    thread = Thread(target=LEDGER.try_fold)
    thread.start()
    thread.join()


def test_the_leak_of_a_request_is_counted_once_at_whichever_line_of_ours_it_is_collected(work: Work) -> None:
    books = Books("work")
    work.leaking_request()
    with at_line(0, gc.collect) as reached:
        work.leaking_request()
    gc.collect()
    step = max(1, reached[0] // _LINES)
    numbers = range(1, reached[0], step)
    for number in numbers:
        with at_line(number, collect_and_let_another_thread_fold):
            work.leaking_request()
        gc.collect()
        dbwatch.findings()
    leaks = books.counted("dbwatch_leaks_total")
    assert leaks["gc"] + leaks["request_end"] == len(numbers) + 2
    assert books.total("dbwatch_leaks_returned_total") == leaks["request_end"]
    assert min(leaks["gc"], leaks["request_end"]) > 2, "each way to find it was met"
    assert books.snapshot().leaked == 0
    assert internal_errors() == {}


@pytest.mark.parametrize("name", ["request", "timeout", "broken", "thrown_away", "disposed", "new_engine", "scrape"])
def test_a_leaked_connection_that_is_collected_at_any_line_of_ours_is_counted_once_and_hangs_nobody(
    name: str, work: Work
) -> None:
    books = Books("work")
    do: Callable[[], None] = getattr(work, name)
    do()
    with at_line(0, gc.collect) as reached:
        do()
    assert reached[0] > 20
    step = max(1, reached[0] // _LINES)
    collected = 0
    for number in range(1, reached[0], step):
        work.leak()
        with at_line(number, gc.collect) as now:
            do()
        collected += now[0] >= number
        gc.collect()
        assert work.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    tried = len(range(1, reached[0], step))
    assert collected > tried * 0.8
    pool = books.snapshot()
    assert (pool.used, pool.waiters, pool.leaked, pool.overflow) == (0, 0, 0, 0)
    assert books.counted("dbwatch_leaks_total")["gc"] == tried
    checkouts = books.observed("dbwatch_checkout_seconds")
    assert checkouts["ok"] == books.observed("dbwatch_hold_seconds")[""]
    opened, closed = (books.total(f"dbwatch_connections_{what}_total") for what in ("opened", "closed"))
    if name != "disposed":  # what comes back to a pool that was disposed of goes with that pool
        assert opened - closed == pool.idle == len(work.server.open())
    assert internal_errors() == {}
