"""Many threads at once. Nothing is asserted until they are done; then everything must be in order."""

import gc
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import QueuePool, create_engine, exc, text

import dbwatch
from dbwatch import guard
from tests.bookkeeping.books import Books, internal_errors, open_new_books
from tests.bookkeeping.counted import CountedServer

_THREADS = 8
_ROUNDS = 120


@pytest.fixture(autouse=True)
def threads_that_interrupt_each_other_all_the_time() -> Iterator[None]:
    open_new_books()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_threads_that_take_drop_invalidate_detach_and_dispose_at_once_leave_the_books_in_order(seed: int) -> None:
    server = CountedServer()
    engine = create_engine(
        "sqlite://",
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=2,
        pool_timeout=0.02,
        pool_pre_ping=True,
        connect_args={"factory": server.connect, "check_same_thread": False},
    )
    dbwatch.watch(engine, "hammered")
    books = Books("hammered")
    start = threading.Barrier(_THREADS)
    done: list[dict[str, int]] = []

    def hammer(number: int) -> None:
        choose = random.Random(seed * 100 + number)
        counts = dict.fromkeys(("ok", "timeout"), 0)
        start.wait()
        for _ in range(_ROUNDS):
            try:
                connection = engine.connect()
            except exc.TimeoutError:
                counts["timeout"] += 1
                continue
            counts["ok"] += 1
            action = choose.random()
            if action < 0.5:
                connection.execute(text("SELECT 1")).close()
            elif action < 0.6:
                connection.invalidate()
            elif action < 0.7:
                connection.detach()
            elif action < 0.8:
                del connection
                continue
            elif action < 0.85:
                engine.dispose()
            elif action < 0.9:
                dbwatch.snapshot()
            connection.close()
        done.append(counts)

    with ThreadPoolExecutor(_THREADS) as executor:
        list(executor.map(hammer, range(_THREADS)))
    engine.dispose()
    gc.collect()
    assert internal_errors() == {}
    pool = books.snapshot()
    assert (pool.used, pool.idle, pool.waiters, pool.overflow, pool.leaked) == (0, 0, 0, 0, 0)
    checkouts = {outcome: count for outcome, count in books.observed("dbwatch_checkout_seconds").items() if count}
    expected = {outcome: sum(counts[outcome] for counts in done) for outcome in ("ok", "timeout")}
    assert checkouts == {outcome: count for outcome, count in expected.items() if count}
    assert books.observed("dbwatch_hold_seconds")[""] == expected["ok"]
    opened = books.total("dbwatch_connections_opened_total")
    assert opened == len(server.opened)
    assert books.total("dbwatch_connections_closed_total") == opened
    server.close()


def test_many_threads_noting_errors_while_others_drain_lose_none_and_raise_nothing() -> None:
    noted = 4 * 2_000

    def note(_number: int) -> None:
        for _ in range(2_000):
            guard.note("test.site", ValueError())

    def drain(_number: int) -> None:
        while running.is_set():
            dbwatch.flush()

    running = threading.Event()
    running.set()
    with ThreadPoolExecutor(8) as executor:
        drains = [executor.submit(drain, number) for number in range(4)]
        list(executor.map(note, range(4)))
        running.clear()
        for drained in drains:
            drained.result()
    assert internal_errors() == {"test.site": noted}
