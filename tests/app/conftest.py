from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import AsyncAdaptedQueuePool, Engine, QueuePool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dbwatch
from dbwatch import runtime
from dbwatch.pools import POOLS


@pytest.fixture(autouse=True)
def a_process_that_has_counted_nothing() -> None:
    """Routes and pool names are bounded for the whole process, so each test starts as a forked child does: at 0."""
    runtime._start_anew()
    POOLS._names.clear()
    POOLS._sites.clear()


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    """An engine named ``shop`` for code on the event loop."""
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=AsyncAdaptedQueuePool)
    dbwatch.watch(engine, name="shop")
    yield engine
    await engine.dispose()


@pytest.fixture
def query(engine: AsyncEngine) -> Callable[[], Awaitable[None]]:
    """Takes a connection from ``shop``, runs one statement, and gives it back."""

    async def run() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    return run


@pytest.fixture
def thread_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine named ``back office`` for code in threads."""
    engine = create_engine(f"sqlite:///{tmp_path / 'office.db'}", poolclass=QueuePool)
    dbwatch.watch(engine, name="back office")
    yield engine
    engine.dispose()
