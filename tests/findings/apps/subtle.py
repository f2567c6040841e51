"""Subtle forms of the other mistakes."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated

import anyio
from fastapi import BackgroundTasks, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from tests.findings.apps.shop import Customer, Order, Tag
from tests.findings.stage import Stage


def engine_in_a_class(stage: Stage) -> None:
    app, url = stage.app, stage.url

    class Orders:
        def __init__(self) -> None:
            self.engine = create_engine(url)  # guilty

        def state(self, number: int) -> str:
            with Session(self.engine) as session:
                order = session.get(Order, number)
                return order.state if order else "unknown"

    @app.get("/orders/{number}")
    def read_order(number: int, orders: Annotated[Orders, Depends(Orders)]) -> str:
        return orders.state(number)


def loop_blocked_by_a_commit(stage: Stage) -> None:
    """The statements run in a thread as they should, and only the commit does not."""
    app = stage.app
    engine = stage.engine(connect_args={"check_same_thread": False} if stage.name.startswith("sqlite") else {})

    def write(session: Session, number: int) -> None:
        session.execute(text("UPDATE orders SET state = 'paid' WHERE number = :number"), {"number": number})

    @app.get("/orders/{number}")
    async def pay_order(number: int) -> str:
        session = Session(engine)
        await asyncio.to_thread(write, session, number)
        session.commit()  # guilty
        await asyncio.to_thread(session.close)
        return "paid"


def loop_blocked_by_a_dependency(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    async def get_state(number: int) -> str:
        with Session(engine) as session:
            order = session.get(Order, number)  # guilty
            return order.state if order else "unknown"

    @app.get("/orders/{number}")
    def read_order(state: Annotated[str, Depends(get_state)]) -> str:
        return state


def loop_blocked_by_a_wait(stage: Stage) -> None:
    """The wait for a connection itself: the holder is in a thread, so it does end."""
    app = stage.app
    engine = stage.engine(pool_size=1, max_overflow=0)
    holds = threading.Event()

    @app.get("/hold")
    def hold() -> str:
        with engine.connect():
            holds.set()
            time.sleep(0.3)
        return "held"

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        await asyncio.to_thread(holds.wait)
        engine.connect().close()  # guilty
        return "read"


def nested_in_a_background_task(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    async def send_receipt() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))  # guilty

    @app.get("/orders/{number}")
    async def read_order(
        number: int, tasks: BackgroundTasks, session: Annotated[AsyncSession, Depends(get_session)]
    ) -> str:
        order = await session.get(Order, number)
        tasks.add_task(send_receipt)
        return order.state if order else "unknown"


def nested_in_gather(stage: Stage) -> None:
    """The request holds its own connection while it waits for tasks that each want another."""
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    async def look_up(number: int) -> str:
        async with AsyncSession(engine) as session:
            order = await session.get(Order, number)  # guilty
            return order.state if order else "unknown"

    @app.get("/orders/{number}")
    async def read_orders(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> list[str]:
        await session.execute(text("SELECT 1"))
        return list(await asyncio.gather(look_up(number), look_up(number + 1)))


def nested_in_wait_for(stage: Stage) -> None:
    """The same with one task, and a limit on the time it may take."""
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def look_up(number: int) -> str:
        async with AsyncSession(engine) as session:
            order = await session.get(Order, number)  # guilty
            return order.state if order else "unknown"

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            return await asyncio.wait_for(asyncio.create_task(look_up(number)), timeout=60)


def nested_at_the_end_of_a_block(stage: Stage) -> None:
    """The second session only adds, so that its connection is taken at the end of its block, in a task of
    SQLAlchemy's.
    """
    app, engine = stage.app, stage.async_engine(pool_size=20)
    sessions = async_sessionmaker(engine)

    async def note() -> None:
        async with sessions.begin() as session:  # guilty
            session.add(Tag(name=uuid.uuid4().hex))

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str | None:
        async with sessions() as session:
            order = await session.get(Order, number)
            await note()
            return order.state if order else None


def nested_in_a_group_of_anyio(stage: Stage) -> None:
    """The same with AnyIO's task group."""
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def look_up(number: int) -> None:
        async with AsyncSession(engine) as session:
            await session.get(Order, number)  # guilty

    @app.get("/orders/{number}")
    async def read_orders(number: int) -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            async with anyio.create_task_group() as group:
                group.start_soon(look_up, number)
                group.start_soon(look_up, number + 1)


def nested_behind_a_middleware(stage: Stage) -> None:
    """A middleware holds the connection of its own while the endpoint, in a task of another, wants one."""
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def authenticate(request: Request, call_next: RequestResponseEndpoint) -> Response:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            return await call_next(request)

    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        async with AsyncSession(engine) as session:
            order = await session.get(Order, number)  # guilty
            return order.state if order else "unknown"

    stage.add_inner(BaseHTTPMiddleware, dispatch=authenticate)
    stage.add_inner(BaseHTTPMiddleware, dispatch=pass_on)


def nested_in_a_thread(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            yield session

    @app.get("/orders/{number}")
    def read_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        with Session(engine) as other:
            order = other.get(Order, number)  # guilty
            return order.state if order else "unknown"


def idle_in_a_background_task(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/orders/{number}")
    async def read_order(
        number: int, tasks: BackgroundTasks, session: Annotated[AsyncSession, Depends(get_session)]
    ) -> str:
        order = await session.get(Order, number)  # guilty
        tasks.add_task(asyncio.sleep, 0.3)
        return order.state if order else "unknown"


def idle_while_streaming(stage: Stage) -> None:
    """The rows were read at once; what is streamed after that needs no connection."""
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    async def lines(state: str) -> AsyncIterator[str]:
        for _ in range(6):
            yield state
            await asyncio.sleep(0.05)

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> StreamingResponse:
        order = await session.get(Order, number)  # guilty
        return StreamingResponse(lines(order.state if order else "unknown"))


def shared_between_two_tasks(stage: Stage) -> None:
    """One request, one session, two tasks: SQLAlchemy refuses the second."""
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/orders/{number}")
    async def read_orders(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        await asyncio.gather(session.get(Order, number), session.get(Order, number + 1))  # guilty
        return "read"


def repeated_in_a_repository(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    class Orders:
        def __init__(self, session: Session) -> None:
            self.session = session

        def state(self, number: int) -> str:
            found = self.session.execute(  # guilty
                text("SELECT state FROM orders WHERE number = :number"), {"number": number}
            ).scalar()
            return str(found)

    @app.get("/orders/{number}")
    def read_orders(number: int) -> list[str]:
        with Session(engine) as session:
            orders = Orders(session)
            return [orders.state(number + offset) for offset in range(15)]


class CustomerOut(BaseModel):
    """A customer as the client sees it."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    orders: list["OrderOut"]


class OrderOut(BaseModel):
    """An order as the client sees it."""

    model_config = ConfigDict(from_attributes=True)
    number: int


def repeated_by_a_response_model(stage: Stage) -> None:
    """The orders of each customer are loaded when the endpoint has returned: nothing of the app is in the stack."""
    engine = stage.engine()

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @stage.app.get("/orders/{number}", response_model=list[CustomerOut])  # guilty
    def read_orders(number: int, session: Annotated[Session, Depends(get_session)]) -> Sequence[Customer]:
        return session.scalars(select(Customer)).all()
