import gc
from collections.abc import Iterator

import pytest

import dbwatch
from tests.bookkeeping.books import open_new_books
from tests.bookkeeping.counted import CountedServer
from tests.bookkeeping.requests import RequestRunner
from tests.reliability.any_line import Work


@pytest.fixture(scope="session")
def in_request() -> RequestRunner:
    return RequestRunner()


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
