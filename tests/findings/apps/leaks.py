"""Connections that get lost on one path only, or where nobody looks."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from tests.findings.apps.shop import Customer, Order
from tests.findings.stage import Stage


def no_finally_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Iterator[Session]:
        session = Session(engine)
        yield session
        session.close()

    @app.get("/orders/{number}")
    def read_order(number: int, session: Annotated[Session, Depends(get_session)]) -> str:
        order = session.get(Order, number)  # guilty
        if order is None:
            raise HTTPException(404)
        return order.state


def no_finally_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        session = AsyncSession(engine)
        yield session
        await session.close()

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)  # guilty
        if order is None:
            raise HTTPException(404)
        return order.state


def close_after_the_last_chunk(stage: Stage) -> None:
    """Closed at the end of the stream, which a client that hangs up never reaches."""
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def lines() -> AsyncIterator[bytes]:
        session = AsyncSession(engine)
        for customer in (await session.scalars(select(Customer))).all():  # guilty
            yield f"{customer.name}\n".encode() * 1000
            await asyncio.sleep(0.05)
        await session.close()

    @app.get("/customers")
    async def list_customers() -> StreamingResponse:
        return StreamingResponse(lines())


def abandoned_generator(stage: Stage) -> None:
    """``async with`` is no help when nobody closes the generator: a client that hangs up while a chunk is being sent
    leaves it where it stands.
    """
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def nothing(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    stage.add_inner(BaseHTTPMiddleware, dispatch=nothing)

    async def lines() -> AsyncIterator[bytes]:
        async with AsyncSession(engine) as session:
            for customer in (await session.scalars(select(Customer))).all():  # guilty
                yield f"{customer.name}\n".encode() * 100_000

    @app.get("/customers")
    async def list_customers() -> StreamingResponse:
        return StreamingResponse(lines())


def sub_dependency_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    def get_session() -> Session:
        return Session(engine)

    def get_order(number: int, session: Annotated[Session, Depends(get_session)]) -> Order | None:
        return session.get(Order, number)  # guilty

    @app.get("/orders/{number}")
    def read_order(order: Annotated[Any, Depends(get_order)]) -> str:
        return order.state if order else "unknown"


def sub_dependency_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def get_session() -> AsyncSession:
        return AsyncSession(engine)

    async def get_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> Order | None:
        return await session.get(Order, number)  # guilty

    @app.get("/orders/{number}")
    async def read_order(order: Annotated[Any, Depends(get_order)]) -> str:
        return order.state if order else "unknown"


def another_middleware(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    async def count(request: Request, call_next: RequestResponseEndpoint) -> Response:
        request.state.session = AsyncSession(engine)
        await request.state.session.execute(text("SELECT 1"))  # guilty
        return await call_next(request)

    stage.add_inner(BaseHTTPMiddleware, dispatch=count)

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        return "fine"


def middleware_further_out(stage: Stage) -> None:
    """Around dbwatch's middleware there is no request: only the garbage collector can tell."""
    another_middleware(stage)
    stage.app.user_middleware.reverse()


def websocket(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    @app.websocket("/live/{number}")
    async def follow(socket: WebSocket, number: int) -> None:
        session = AsyncSession(engine)
        await socket.accept()
        order = await session.get(Order, number)  # guilty
        await socket.send_text(order.state if order else "unknown")
        await socket.receive_text()
        await session.close()


def scoped_session_without_remove(stage: Stage) -> None:
    app = stage.app
    sessions = scoped_session(sessionmaker(stage.engine(pool_size=20)))

    @app.get("/orders/{number}")
    def read_order(number: int) -> str:
        order = sessions.get(Order, number)  # guilty
        return order.state if order else "unknown"


def close_without_await(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        session = AsyncSession(engine)
        order = await session.get(Order, number)  # guilty
        session.close()  # type: ignore[unused-coroutine]
        return order.state if order else "unknown"


def raw_connect_sync(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)

    @app.get("/orders/{number}")
    def read_order(number: int) -> str:
        row = engine.connect().execute(select(Order.state).where(Order.number == number)).first()  # guilty
        return row.state if row else "unknown"


def raw_connect_async(stage: Stage) -> None:
    app, engine = stage.app, stage.async_engine(pool_size=20)

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        connection = await engine.connect()  # guilty
        row = (await connection.execute(select(Order.state).where(Order.number == number))).first()
        return row.state if row else "unknown"


def raw_driver_connection(stage: Stage) -> None:
    app, engine = stage.app, stage.engine(pool_size=20)
    kept = []

    @app.get("/orders/{number}")
    def read_order(number: int) -> str:
        connection = engine.raw_connection()  # guilty
        kept.append(connection)
        return "kept"

    stage.at_end.append(kept.clear)


def thread_of_the_request(stage: Stage) -> None:
    """Taken in a thread that the request waits for, and dropped with it."""
    app, engine = stage.app, stage.engine(pool_size=20)

    def look_up(number: int) -> str:
        session = Session(engine)
        order = session.get(Order, number)  # guilty
        return order.state if order else "unknown"

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        return await asyncio.to_thread(look_up, number)


def spawned_task_with_the_requests_session(stage: Stage) -> None:
    """The session is closed with the request, and the task opens it again."""
    app, engine = stage.app, stage.async_engine(pool_size=20)
    ended = asyncio.Event()
    tasks = set()

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    async def audit(session: AsyncSession) -> None:
        await ended.wait()
        await session.execute(text("SELECT 1"))  # guilty

    @app.get("/orders/{number}")
    async def read_order(number: int, session: Annotated[AsyncSession, Depends(get_session)]) -> str:
        order = await session.get(Order, number)
        tasks.add(asyncio.create_task(audit(session)))
        return order.state if order else "unknown"

    @app.get("/end")
    async def end() -> None:
        ended.set()
        await asyncio.wait(tasks)


def spawned_task_that_takes_its_connection_first(stage: Stage) -> None:
    """The task had its connection before the request ended, and never gave it back."""
    app, engine = stage.app, stage.async_engine(pool_size=20)
    ended = asyncio.Event()
    tasks = set()

    async def audit(started: asyncio.Event) -> None:
        session = AsyncSession(engine)
        await session.execute(text("SELECT 1"))  # guilty
        started.set()
        await ended.wait()

    @app.get("/orders/{number}")
    async def read_order(number: int) -> str:
        started = asyncio.Event()
        tasks.add(asyncio.create_task(audit(started)))
        await started.wait()
        return "read"

    @app.get("/end")
    async def end() -> None:
        ended.set()
        await asyncio.wait(tasks)
