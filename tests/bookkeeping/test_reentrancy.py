"""The garbage collector runs our listeners in the middle of our own code, and other threads while we hold a lock."""

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, QueuePool, create_engine, text

import dbwatch
from dbwatch import runtime
from dbwatch.ledger import LEDGER
from dbwatch.pools import POOLS
from tests.bookkeeping.books import Books, internal_errors, open_new_books
from tests.bookkeeping.counted import CountedServer

#: A deadlock would last for ever.
pytestmark = pytest.mark.timeout(30, method="thread")


@pytest.fixture
def engine() -> Iterator[Engine]:
    open_new_books()
    server = CountedServer()
    arguments = {"factory": server.connect, "check_same_thread": False}
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=4, connect_args=arguments)
    dbwatch.watch(engine, "main")
    gc.disable()
    gc.freeze()  # the tests collect often; they need not look at all that the test run has loaded
    yield engine
    gc.unfreeze()
    gc.enable()
    engine.dispose()
    server.close()


@pytest.fixture
def books() -> Books:
    return Books("main")


def leak(engine: Engine, count: int) -> None:
    """Leave connections behind that only the garbage collector can find."""
    for _ in range(count):
        connection = engine.connect()
        connection.execute(text("SELECT 1"))


def collecting(original: Callable[..., Any], collections: list[int]) -> Callable[..., Any]:
    """The same function with a garbage collection before and after."""

    def collect(*arguments: Any, **keywords: Any) -> Any:
        collections.append(gc.collect())
        try:
            return original(*arguments, **keywords)
        finally:
            gc.collect()

    return collect


@pytest.mark.parametrize(
    ("owner", "name"),
    [(LEDGER, "attempt_ended"), (LEDGER, "pool_series"), (LEDGER, "_fold"), (POOLS, "snapshot"), (POOLS, "of")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_leaked_connections_collected_in_the_middle_of_our_code_are_counted_and_nothing_hangs(
    owner: object, name: str, engine: Engine, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = CollectorRegistry()
    runtime.exposition(registry)
    leak(engine, 3)
    assert books.snapshot().used == 3
    collections: list[int] = []
    monkeypatch.setattr(owner, name, collecting(getattr(owner, name), collections))
    engine.dispose()  # so that a pool is seen for the first time
    engine.connect().close()
    list(registry.collect())
    monkeypatch.undo()
    assert collections
    assert books.snapshot().used == 0
    assert books.counted("dbwatch_leaks_total")["gc"] == 3
    assert books.observed("dbwatch_hold_seconds")[""] == 4
    assert internal_errors() == {}


@pytest.mark.parametrize("lock", [LEDGER, POOLS], ids=["ledger", "pools"])
def test_connections_are_taken_used_and_given_back_while_another_thread_holds_our_lock(
    lock: Any, engine: Engine, books: Books
) -> None:
    engine.connect().close()
    leak(engine, 1)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock._lock:
            held.set()
            release.wait(20)

    def use() -> None:
        for _ in range(100):  # more facts than are folded at once
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        with engine.connect() as connection:
            connection.invalidate()
        with engine.connect() as connection:
            connection.detach()
        gc.collect()

    with ThreadPoolExecutor(2) as executor:
        holder = executor.submit(hold)
        assert held.wait(10)
        try:
            executor.submit(use).result(15)
        finally:
            release.set()
        holder.result(10)
    assert books.snapshot().used == 0
    assert books.observed("dbwatch_checkout_seconds")["ok"] == 104
    assert internal_errors() == {}
