"""Changes that are never committed, and a response that says they were made."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.findings.apps.shop import Order
from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.post("/orders", status_code=201)
    def place_order(session: Annotated[Session, Depends(get_session)]) -> int:
        order = Order(state="new")
        session.add(order)
        session.flush()  # guilty
        return order.number


def corrected_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.post("/orders", status_code=201)
    def place_order(session: Annotated[Session, Depends(get_session)]) -> int:
        order = Order(state="new")
        session.add(order)
        session.commit()
        return order.number


def faulty_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.post("/orders", status_code=201)
    async def place_order(session: Annotated[AsyncSession, Depends(get_session)]) -> int:
        order = Order(state="new")
        session.add(order)
        await session.flush()  # guilty
        return order.number


def corrected_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield session

    @app.post("/orders", status_code=201)
    async def place_order(session: Annotated[AsyncSession, Depends(get_session)]) -> int:
        order = Order(state="new")
        session.add(order)
        await session.commit()
        return order.number
