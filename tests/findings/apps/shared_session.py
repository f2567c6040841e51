"""One session in the module for all requests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated

from fastapi import Depends
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.findings.apps.shop import Order
from tests.findings.stage import Stage


class TwoAtOnce:
    """Lets two requests begin before either goes on, and end together; what the app does runs one after the other."""

    def __init__(self, app: ASGIApp, together: asyncio.Barrier, in_turn: asyncio.Lock) -> None:
        self.app = app
        self.together = together
        self.in_turn = in_turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope.get("path", "").startswith("/orders"):
            await self.app(scope, receive, send)
            return
        await self.together.wait()
        async with self.in_turn:
            await self.app(scope, receive, send)
        await self.together.wait()


def two_at_once(stage: Stage) -> None:
    stage.add_inner(TwoAtOnce, together=asyncio.Barrier(2), in_turn=asyncio.Lock())


def faulty_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(connect_args=_for_any_thread(stage))

    session = Session(engine)

    @app.get("/orders/{number}")
    def read_order(number: int) -> str:
        order = session.get(Order, number)  # guilty
        return order.state if order else "unknown"

    two_at_once(stage)
    stage.at_end.append(session.close)


def corrected_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine()

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/orders/{number}")
    def read_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)
        return order.state if order else "unknown"

    two_at_once(stage)


def faulty_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine()

    session = AsyncSession(engine)

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        order = await session.get(Order, number)  # guilty
        return order.state if order else "unknown"

    two_at_once(stage)
    stage.at_end.append(session.close)


def corrected_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine()

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)
        return order.state if order else "unknown"

    two_at_once(stage)


def faulty_warm(stage: Stage) -> None:
    """The session has its connection before the first request: only the requests themselves can be told apart."""
    app, engine = stage.app, stage.async_engine()
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
        order = await session.get(Order, number)  # guilty
        return order.state if order else "unknown"

    two_at_once(stage)
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


def faulty_committing(stage: Stage) -> None:
    """The session's transactions never meet, but the requests do."""
    session = AsyncSession(stage.async_engine(), expire_on_commit=False)
    _read_and_commit(stage, lambda: nullcontext(session))
    stage.at_end.append(session.close)


def corrected_committing(stage: Stage) -> None:
    engine = stage.async_engine()
    _read_and_commit(stage, lambda: AsyncSession(engine, expire_on_commit=False))


def _read_and_commit(stage: Stage, get_session: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> None:
    both_have_read, in_turn = asyncio.Barrier(2), asyncio.Lock()

    @stage.app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        async with get_session() as session:
            async with in_turn:
                order = await session.get(Order, number)  # guilty
                await session.commit()
            await both_have_read.wait()
        return order.state if order else "unknown"


def _for_any_thread(stage: Stage) -> dict[str, bool]:
    return {"check_same_thread": False} if stage.name.startswith("sqlite") else {}
