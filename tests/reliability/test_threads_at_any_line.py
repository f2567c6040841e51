"""Another thread works with the same pool while this one stands still, at any line of ours."""

import gc
import logging
from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from sqlalchemy import exc

from dbwatch.ledger import LEDGER
from tests.bookkeeping.books import Books, internal_errors
from tests.bookkeeping.requests import RequestRunner
from tests.reliability.any_line import Work, at_line, lines_of

#: A deadlock would last for ever.
pytestmark = pytest.mark.timeout(180, method="thread")

#: How long another thread is waited for, in seconds: it may need a lock that this one holds where it stands.
_PATIENCE = 0.02


class Another:
    """A thread that does something once, and is waited for until it is done or cannot go on."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do
        self.threads: list[Thread] = []
        self.errors: list[Exception] = []

    def __call__(self) -> None:
        thread = Thread(target=self._run)
        self.threads.append(thread)
        thread.start()
        thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            self._do()
        except exc.TimeoutError:
            pass  # the pool is empty where the other stands
        except Exception as error:  # noqa: BLE001  raised in the test below
            self.errors.append(error)

    def finish(self) -> None:
        """Wait for its end. Raises what it raised."""
        while self.threads:
            self.threads.pop().join(20)
        for error in self.errors:
            raise error


@pytest.fixture
def peer(work: Work, in_request: RequestRunner) -> Iterator[Work]:
    """The same engine in the hands of another thread."""
    peer = Work(work.server, in_request, work.engine)
    yield peer
    peer.close()


@pytest.mark.parametrize(
    "other", ["request", "thrown_away", "disposed", "new_engine", "scrape", "reports", "give_back"]
)
@pytest.mark.parametrize(
    "name", ["request", "careless_request", "timeout", "broken", "thrown_away", "scrape", "reports"]
)
def test_what_another_thread_does_at_any_line_of_ours_leaves_the_books_in_order(
    name: str, other: str, work: Work, peer: Work, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")  # a captured record keeps its frames, and they their pools
    books = Books("work")
    another = Another(work.give_back if other == "give_back" else getattr(peer, other))

    def do() -> None:
        try:
            getattr(work, name)()
        except exc.TimeoutError:
            pass  # the other has all that are left
        finally:
            another.finish()
            work.give_back()

    for number in lines_of(do):
        with at_line(number, another):
            do()
    gc.unfreeze()
    gc.collect()  # pools that were disposed of
    pool = books.snapshot()
    assert (pool.used, pool.waiters, pool.leaked, pool.overflow) == (0, 0, 0, 0)
    checkouts = books.observed("dbwatch_checkout_seconds")
    assert checkouts["ok"] == books.observed("dbwatch_hold_seconds")[""]
    opened, closed = (books.total(f"dbwatch_connections_{what}_total") for what in ("opened", "closed"))
    assert opened - closed == pool.idle
    if other != "disposed":  # what comes back to a pool that was disposed of goes with that pool, and is not closed
        assert len(work.server.open()) == pool.idle
    leaks = books.counted("dbwatch_leaks_total")
    assert leaks["gc"] == 0
    assert leaks["request_end"] == books.total("dbwatch_leaks_returned_total") <= work.requests
    if name == "careless_request" and other != "give_back":
        assert leaks["request_end"] == work.requests
    if name.endswith("request"):
        requests = work.requests + peer.requests
        statements = LEDGER.accumulators.counters["dbwatch_request_statements_total"].values()
        assert sum(series.value for series in statements) == requests
    assert internal_errors() == {}
