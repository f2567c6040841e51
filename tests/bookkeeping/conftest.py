from collections.abc import Iterator

import pytest

import dbwatch
from tests.bookkeeping.peer import Peer
from tests.bookkeeping.requests import RequestRunner


@pytest.fixture(scope="session")
def in_request() -> RequestRunner:
    return RequestRunner()


@pytest.fixture
def peer() -> Iterator[Peer]:
    dbwatch.install()  # before the peer, whose "last" listeners must come after ours
    with Peer().listening() as listening:
        yield listening
