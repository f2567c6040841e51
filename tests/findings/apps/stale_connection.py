"""A pool that hands out connections untested, and a server that closed them meanwhile."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.findings.apps.shop import Order
from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_engine(url, pool_size=1, max_overflow=0)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/orders/{number}")
    def read_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)  # guilty
        return order.state if order else "unknown"

    stage.at_end.append(engine.dispose)


def corrected_sync(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, pool_recycle=1800)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/orders/{number}")
    def read_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)
        return order.state if order else "unknown"

    stage.at_end.append(engine.dispose)


def faulty_async(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_async_engine(url, pool_size=1, max_overflow=0)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)  # guilty
        return order.state if order else "unknown"

    stage.at_end.append(engine.dispose)


def corrected_async(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, pool_recycle=1800)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)
        return order.state if order else "unknown"

    stage.at_end.append(engine.dispose)
