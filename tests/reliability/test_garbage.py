"""What a request leaves behind goes at once, and not when the garbage collector runs.

Not so after a failed connect: there SQLAlchemy's own frames make a cycle (2.0 and 2.1), bare as well.
"""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

import dbwatch
from dbwatch.records import Checkout, Request
from tests.bookkeeping.requests import RequestRunner
from tests.core.numbers import start_anew


@pytest.fixture(autouse=True)
def _own_numbers() -> Iterator[None]:
    start_anew()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def records() -> int:
    return sum(isinstance(kept, Request | Checkout) for kept in gc.get_objects())


@pytest.fixture
def in_request() -> RequestRunner:
    return RequestRunner()


async def test_no_record_of_a_request_waits_for_the_garbage_collector(
    tmp_path: Path, in_request: RequestRunner
) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}", poolclass=QueuePool)

    async def endpoint() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            with other.connect() as also:
                also.execute(text("SELECT 1"))

    await in_request(endpoint)
    dbwatch.snapshot()
    before = records()
    for _ in range(10):
        await in_request(endpoint)
    dbwatch.snapshot()
    assert records() == before
    await engine.dispose()
    other.dispose()
