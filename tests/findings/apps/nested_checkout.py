"""A second session inside a request that already holds one."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.findings.apps.shop import Order
from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    def write_audit(number: int) -> None:
        with Session(engine) as audit:
            audit.execute(text("SELECT :number"), {"number": number})  # guilty

    @app.get("/orders/{number}")
    def read_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)
        write_audit(number)
        return order.state if order else "unknown"


def corrected_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    def write_audit(session: Session, number: int) -> None:
        session.execute(text("SELECT :number"), {"number": number})

    @app.get("/orders/{number}")
    def read_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)
        write_audit(session, number)
        return order.state if order else "unknown"


def faulty_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    async def write_audit(number: int) -> None:
        async with AsyncSession(engine) as audit:
            await audit.execute(text("SELECT 'audit'"))  # guilty

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)
        await write_audit(number)
        return order.state if order else "unknown"


def corrected_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    async def write_audit(session: AsyncSession, number: int) -> None:
        await session.execute(text("SELECT 'audit'"))

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)
        await write_audit(session, number)
        return order.state if order else "unknown"
