"""Correct patterns of work beyond the endpoint: streams, background work, other ways of visiting."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import BackgroundTasks, Depends, WebSocket
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from tests.apps.correct import Pattern, Urls, correct, new_app
from tests.apps.visits import by_clients_that_leave, by_test_client, by_websocket, over_uvicorn

ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) SELECT i FROM n"


@correct
def background_tasks_with_their_own_session(urls: Urls) -> Pattern:
    engine, async_engine = create_engine(urls.sync), create_async_engine(urls.asynchronous)
    app = new_app(engine, async_engine)

    def work() -> None:
        with Session(engine) as session:
            session.execute(text("SELECT 1"))

    async def work_async() -> None:
        async with AsyncSession(async_engine) as session:
            await session.execute(text("SELECT 1"))

    @app.get("/")
    async def read(tasks: BackgroundTasks) -> int:
        tasks.add_task(work)
        tasks.add_task(work_async)
        async with AsyncSession(async_engine) as session:
            return int(await session.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def a_session_closed_in_the_background(urls: Urls) -> Pattern:
    async_engine = create_async_engine(urls.asynchronous)
    app = new_app(async_engine)

    @app.get("/")
    async def read(tasks: BackgroundTasks) -> int:
        session = AsyncSession(async_engine)
        tasks.add_task(session.close)  # in a thread, were it no coroutine function
        return int(await session.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def spawned_tasks_with_their_own_session(urls: Urls) -> Pattern:
    engine, async_engine = create_engine(urls.sync), create_async_engine(urls.asynchronous)
    running: set[asyncio.Task[None]] = set()
    app = new_app(engine, async_engine)

    def in_a_thread() -> None:
        with Session(engine) as session:
            session.execute(text("SELECT 1"))

    async def work() -> None:
        async with AsyncSession(async_engine) as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(0.02)  # Beyond the end of the request.
            await session.execute(text("SELECT 1"))
        await asyncio.to_thread(in_a_thread)

    @app.get("/")
    async def read() -> None:
        for _ in range(2):
            task = asyncio.create_task(work())
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.sleep(0)

    @app.get("/finish")
    async def finish() -> None:
        await asyncio.gather(*running)

    def visit(visited: object, requests: int) -> None:
        over_uvicorn(*["/"] * (requests - 1), "/finish")(visited, requests)

    return Pattern(app, visit)


@correct
def rows_streamed_from_a_session(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)
    app = new_app(engine)

    async def lines() -> AsyncIterator[str]:
        async with AsyncSession(engine) as session:
            result = await session.stream(text(ROWS))
            async for row in result:
                yield f"{row[0]}\n"

    @app.get("/")
    async def read() -> StreamingResponse:
        return StreamingResponse(lines())

    return Pattern(app)


@correct
def rows_streamed_from_the_session_of_a_dependency(urls: Urls) -> Pattern:
    engine = create_engine(urls.sync)
    app = new_app(engine)

    def get_db() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/")
    def read(db: Annotated[Session, Depends(get_db)]) -> StreamingResponse:
        rows = db.execute(text(ROWS), execution_options={"yield_per": 100})
        return StreamingResponse(f"{row[0]}\n" for row in rows)

    return Pattern(app)


@correct
def clients_that_hang_up(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)
    app = new_app(engine)

    async def lines() -> AsyncIterator[str]:
        async with AsyncSession(engine) as session:
            result = await session.stream(text(ROWS))
            async for row in result:
                yield f"{row[0]}\n" * 100
                if row[0] % 20 == 0:
                    await asyncio.sleep(0.005)

    @app.get("/")
    async def read() -> StreamingResponse:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
        return StreamingResponse(lines())

    return Pattern(app, by_clients_that_leave("/"))


@correct
def the_apps_own_tests(urls: Urls) -> Pattern:
    engine, async_engine = create_engine(urls.sync), create_async_engine(urls.asynchronous)
    app = new_app(engine, async_engine)

    @app.get("/sync")
    def read() -> int:
        with Session(engine) as session:
            return int(session.scalar(text("SELECT 7")) or 0)

    @app.get("/async")
    async def read_async() -> int:
        async with AsyncSession(async_engine) as session:
            value = int(await session.scalar(text("SELECT 7")) or 0)
        await async_engine.dispose()  # A TestClient without a lifespan has another loop for each request.
        return value

    return Pattern(app, by_test_client("/sync", "/async"))


@correct
def websockets_that_come_and_go(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)
    app = new_app(engine)

    @app.websocket("/ws/{room}")
    async def talk(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        try:
            while await websocket.receive_text() != "bye":
                async with AsyncSession(engine) as session:
                    await websocket.send_text(str(await session.scalar(text("SELECT 7"))))
        except WebSocketDisconnect:
            return

    return Pattern(app, by_websocket("/ws/blue"))
