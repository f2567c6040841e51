"""A connection that is held during something slow that is not the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.findings.apps.shop import Order
from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def ask_the_carrier() -> str:
        time.sleep(0.3)
        return "on its way"

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/orders/{number}")
    def track_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)  # guilty
        return ask_the_carrier() if order else "unknown"


def corrected_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def ask_the_carrier() -> str:
        time.sleep(0.3)
        return "on its way"

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/orders/{number}")
    def track_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)
        session.commit()
        return ask_the_carrier() if order else "unknown"


def faulty_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def ask_the_carrier() -> str:
        await asyncio.sleep(0.15)
        return "on its way"

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/orders/{number}")
    async def track_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)  # guilty
        return await ask_the_carrier() if order else "unknown"


def corrected_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def ask_the_carrier() -> str:
        await asyncio.sleep(0.15)
        return "on its way"

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/orders/{number}")
    async def track_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)
        await session.commit()
        return await ask_the_carrier() if order else "unknown"
