from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.core.connections import Connections
from tests.core.numbers import Numbers, start_anew
from tests.servers.databases import AsyncDatabase, SyncDatabase

#: Makes an engine on the database of the test, with the options of create_engine.
Connect = Callable[..., Connections]


@pytest.fixture(autouse=True)
def numbers() -> Iterator[Numbers]:
    """The numbers of this test alone. Whatever the test does, dbwatch itself must not fail."""
    start_anew()
    numbers = Numbers()
    yield numbers
    assert numbers("dbwatch_internal_errors_total") == 0


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads enough for every connection that waits or is held."""
    with ThreadPoolExecutor(64) as executor:
        yield executor


@pytest.fixture
def connect(database: SyncDatabase | AsyncDatabase, threads: ThreadPoolExecutor) -> Connect:
    """Engines on every database and driver in turn."""

    def make(**options: Any) -> Connections:
        return Connections(database.engine(**options), threads)

    return make


@pytest.fixture
def connect_async(async_database: AsyncDatabase, threads: ThreadPoolExecutor) -> Connect:
    """Engines on every async driver in turn."""

    def make(**options: Any) -> Connections:
        return Connections(async_database.engine(**options), threads)

    return make
