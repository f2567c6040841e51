import gc
import logging
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.bookkeeping.machine import Bookkeeping
from tests.bookkeeping.peer import Peer
from tests.bookkeeping.pools import ASYNC_NULL, ASYNC_QUEUE, NULL, QUEUE, STATIC, Kind
from tests.bookkeeping.requests import RequestRunner
from tests.servers.databases import OLD_SQLALCHEMY

#: SQLAlchemy's word for what the rule ``drop`` does on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The garbage collector is trying:sqlalchemy.exc.SAWarning"),
    # A peer that fails while the garbage collector gives a connection back fails into the void.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # A thread of aiosqlite that reports a late close to an event loop that has ended.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

#: Explaining a failure takes minutes.
_PHASES = tuple(phase for phase in Phase if phase is not Phase.explain)


@pytest.fixture(autouse=True)
def nothing_keeps_a_dropped_connection_alive() -> Iterator[None]:
    logging.disable()  # a log record that is kept for a report keeps the traceback's frames
    yield
    logging.disable(logging.NOTSET)
    gc.unfreeze()
    gc.collect()


@pytest.mark.parametrize("kind", [QUEUE, ASYNC_QUEUE, NULL, ASYNC_NULL, STATIC], ids=str)
def test_the_books_agree_with_the_pool_whatever_happens_to_its_connections(
    kind: Kind, peer: Peer, in_request: RequestRunner
) -> None:
    if kind.is_async and OLD_SQLALCHEMY:
        pytest.skip("this SQLAlchemy does not close a connection of aiosqlite that was dropped")
    if kind is QUEUE and OLD_SQLALCHEMY:
        pytest.skip("this SQLAlchemy announces the close of a new connection that a listener of another tool refused")
    run_state_machine_as_test(
        lambda: Bookkeeping(kind, peer, in_request),  # type: ignore[arg-type]  # any callable will do
        settings=settings(max_examples=40, stateful_step_count=30, phases=_PHASES),
    )
