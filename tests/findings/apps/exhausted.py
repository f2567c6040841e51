"""A pool of five, exhausted for five different reasons; ``/victim`` is who waits for the sixth connection. And a pool
of one, exhausted for want of threads.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from tests.findings.apps.shop import Order
from tests.findings.stage import Stage

SIZE = 5
TIMEOUT = 1.2
SECRET = "s3cret-parameter"


def _engine_with_victim(stage: Stage, size: int = SIZE) -> AsyncEngine:
    engine = stage.async_engine(pool_size=size, max_overflow=0, pool_timeout=TIMEOUT)

    @stage.app.get("/victim")
    async def victim() -> None:
        async with engine.connect():
            pass

    return engine


def by_a_leak(stage: Stage) -> None:
    engine = _engine_with_victim(stage)
    kept = []

    @stage.app.get("/hold/{number}")
    async def leak(number: int) -> str:
        session = AsyncSession(engine)
        kept.append(session)
        order = await session.get(Order, number)  # guilty
        return order.state if order else "unknown"

    async def close() -> None:
        for session in kept:
            await session.close()

    stage.at_end.append(close)


def by_long_statements(stage: Stage) -> None:
    engine = _engine_with_victim(stage)

    @stage.app.get("/hold/{number}")
    async def report(number: int) -> str:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT pg_sleep(2), :secret"), {"secret": SECRET})  # guilty
        return "done"


def by_idle_holds(stage: Stage) -> None:
    """``/release`` lets the holders go on."""
    engine = _engine_with_victim(stage, stage.size)
    may_end = asyncio.Event()

    @stage.app.get("/hold/{number}")
    async def call_the_carrier(number: int) -> str:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1, :secret"), {"secret": SECRET})  # guilty
            await may_end.wait()
        return "done"

    @stage.app.get("/release")
    async def release() -> None:
        may_end.set()


def by_nesting(stage: Stage) -> None:
    """Five requests with one connection each, that all want a second; the sixth party is each of them."""
    engine = _engine_with_victim(stage)
    all_hold = asyncio.Barrier(SIZE)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @stage.app.get("/hold/{number}")
    async def audit(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> None:
        await session.get(Order, number)  # guilty
        await all_hold.wait()
        async with AsyncSession(engine) as other:
            await other.execute(text("SELECT 1"))


def by_lack_of_size(stage: Stage) -> None:
    """Short holds that all work, and far more requests than connections. None of them ends when a wait does."""
    engine = _engine_with_victim(stage)

    @stage.app.get("/hold/{number}")
    async def work(number: int) -> str:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT pg_sleep(0.35)"))  # guilty
        return "done"


def by_short_idle_holds(stage: Stage) -> None:
    """More than three holds after each other in the time for which a request waits, and none of their ends when it is
    over. They run no SQL for most of their time.
    """
    engine = stage.async_engine(pool_size=SIZE, max_overflow=0, pool_timeout=1.5)

    @stage.app.get("/hold/{number}")
    async def ask_the_supplier(number: int) -> str:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(0.4)
        return "done"


def by_lack_of_threads(stage: Stage) -> None:
    """The dependency is one call in a thread, the endpoint another: between them the connection waits with its request.
    ``/threads`` leaves two threads and says how many calls wait for one. The lock keeps the first statement running.
    """
    engine = stage.engine(pool_size=1, max_overflow=0, pool_timeout=TIMEOUT)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            session.execute(text("SELECT pg_advisory_xact_lock(4711)"))  # guilty
            yield session

    @stage.app.get("/hold/{number}")
    def read(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)
        return order.state if order else "unknown"

    @stage.app.get("/threads")
    async def threads() -> int:
        limiter = current_default_thread_limiter()
        limiter.total_tokens = 2
        return limiter.statistics().tasks_waiting
