"""One session in the module for all requests."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.findings.apps.shop import Order
from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(connect_args=_for_any_thread(stage))
    both_are_here = threading.Barrier(2, timeout=20.0)
    one_at_a_time = threading.Lock()

    session = Session(engine)

    @app.get("/orders/{number}")
    def read_order(number: int) -> str:
        both_are_here.wait()
        with one_at_a_time:  # The driver's own safety; the transaction is still one for all.
            order = session.get(Order, number, populate_existing=True)  # guilty
        both_are_here.wait()
        return order.state if order else "unknown"

    stage.at_end.append(session.close)


def corrected_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine()
    both_are_here = threading.Barrier(2, timeout=20.0)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/orders/{number}")
    def read_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        both_are_here.wait()
        order = session.get(Order, number)
        both_are_here.wait()
        return order.state if order else "unknown"


def faulty_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine()
    both_are_here = asyncio.Barrier(2)
    one_at_a_time = asyncio.Lock()

    session = AsyncSession(engine)

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        await both_are_here.wait()
        async with one_at_a_time:
            order = await session.get(Order, number, populate_existing=True)  # guilty
        await both_are_here.wait()
        return order.state if order else "unknown"

    stage.at_end.append(session.close)


def corrected_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine()
    both_are_here = asyncio.Barrier(2)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        await both_are_here.wait()
        order = await session.get(Order, number)
        await both_are_here.wait()
        return order.state if order else "unknown"


def faulty_warm(stage: Stage) -> None:
    """The session has its connection before the first request: only the requests themselves can be told apart."""
    app, engine = stage.app, stage.async_engine()
    both_are_here = asyncio.Barrier(2)
    one_at_a_time = asyncio.Lock()
    session = AsyncSession(engine)

    async def warm_up() -> None:
        await session.execute(text("SELECT 1"))

    @app.get("/warm")
    async def warm() -> str:
        # In a task without the request's context, as a lifespan would.
        await asyncio.get_running_loop().create_task(warm_up(), context=stage.outside)
        return "warm"

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        await both_are_here.wait()
        async with one_at_a_time:
            order = await session.get(Order, number, populate_existing=True)  # guilty
        await both_are_here.wait()
        return order.state if order else "unknown"

    stage.at_end.append(session.close)


def faulty_cold(stage: Stage) -> None:
    """The session has no connection yet: SQLAlchemy refuses the second task itself, before any hook sees it."""
    app, engine = stage.app, stage.async_engine()
    both_are_here = asyncio.Barrier(2)
    session = AsyncSession(engine)

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        await both_are_here.wait()
        order = await session.get(Order, number)  # guilty
        return order.state if order else "unknown"

    stage.at_end.append(session.close)


def _for_any_thread(stage: Stage) -> dict[str, bool]:
    return {"check_same_thread": False} if stage.name.startswith("sqlite") else {}
