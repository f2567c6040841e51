"""Rows fetched one by one: N+1."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, selectinload

from tests.findings.apps.shop import Customer, Order
from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/customers")
    def list_customers(session: Annotated[Session, Depends(get_session)]) -> dict[str, int]:
        customers = session.scalars(select(Customer)).all()
        return {customer.name: len(customer.orders) for customer in customers}  # guilty


def corrected_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/customers")
    def list_customers(session: Annotated[Session, Depends(get_session)]) -> dict[str, int]:
        customers = session.scalars(select(Customer).options(selectinload(Customer.orders))).all()
        return {customer.name: len(customer.orders) for customer in customers}


def faulty_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/customers")
    async def list_customers(session: Annotated[AsyncSession, Depends(get_session)]) -> dict[str, int]:
        counts = {}
        for customer in (await session.scalars(select(Customer))).all():
            orders = await session.scalars(select(Order).where(Order.customer_id == customer.id))  # guilty
            counts[customer.name] = len(orders.all())
        return counts


def corrected_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/customers")
    async def list_customers(session: Annotated[AsyncSession, Depends(get_session)]) -> dict[str, int]:
        customers = await session.scalars(select(Customer).options(selectinload(Customer.orders)))
        return {customer.name: len(customer.orders) for customer in customers.all()}
