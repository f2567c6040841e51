"""Correct patterns of engines and pools."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from threading import Lock
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import (
    AssertionPool,
    Engine,
    NullPool,
    Pool,
    SingletonThreadPool,
    StaticPool,
    create_engine,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import dbwatch
from tests.apps.correct import Pattern, Urls, correct, dispose, new_app
from tests.apps.visits import over_uvicorn


@correct
def an_engine_made_at_the_first_request(urls: Urls) -> Pattern:
    making = Lock()
    made: list[Engine] = []

    def engine() -> Engine:
        with making:
            if not made:
                made.append(create_engine(urls.sync))
        return made[0]

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await dispose(*made)

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(dbwatch.DBWatchMiddleware)

    @app.get("/")
    def read(chosen: Annotated[Engine, Depends(engine)]) -> int:
        with Session(chosen) as session:
            return int(session.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def an_engine_that_is_disposed_of_and_used_again(urls: Urls) -> Pattern:
    engine = create_engine(urls.sync)
    app = new_app(engine)

    @app.get("/")
    def read() -> int:
        with engine.connect() as connection:
            return int(connection.scalar(text("SELECT 7")) or 0)

    @app.get("/dispose")
    def renew() -> None:
        engine.dispose()

    return Pattern(app, over_uvicorn("/", "/", "/", "/dispose"))


@correct
def an_async_engine_that_is_disposed_of_and_used_again(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)
    app = new_app(engine)

    @app.get("/")
    async def read() -> int:
        async with engine.connect() as connection:
            return int(await connection.scalar(text("SELECT 7")) or 0)

    @app.get("/dispose")
    async def renew() -> None:
        await engine.dispose()

    return Pattern(app, over_uvicorn("/", "/", "/", "/dispose"))


@correct
def a_pool_that_keeps_no_connection(urls: Urls) -> Pattern:
    return _two_kinds_of_engine(urls, NullPool)


def _two_kinds_of_engine(urls: Urls, poolclass: type[Pool]) -> Pattern:
    engine = create_engine(urls.sync, poolclass=poolclass)
    async_engine = create_async_engine(urls.asynchronous, poolclass=poolclass)
    app = new_app(engine, async_engine)

    @app.get("/sync")
    def read() -> int:
        with Session(engine) as session:
            return int(session.scalar(text("SELECT 7")) or 0)

    @app.get("/async")
    async def read_async() -> int:
        async with AsyncSession(async_engine) as session:
            return int(await session.scalar(text("SELECT 7")) or 0)

    return Pattern(app, over_uvicorn("/sync", "/async"))


@correct
def one_connection_for_all_in_a_static_pool(_urls: Urls) -> Pattern:
    # The set-up of many tests: SQLite in memory. One at a time, because the connection can do no more.
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    app, turn = new_app(engine), Lock()

    @app.get("/")
    def read() -> int:
        with Session(engine) as outer, turn:
            return int(outer.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def one_connection_for_all_in_an_async_static_pool(_urls: Urls) -> Pattern:
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    app, turn = new_app(engine), asyncio.Lock()

    @app.get("/")
    async def read() -> int:
        async with AsyncSession(engine) as session, turn:
            return int(await session.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def a_connection_for_each_thread(_urls: Urls) -> Pattern:
    engine = create_engine(
        "sqlite:///:memory:", poolclass=SingletonThreadPool, pool_size=100, connect_args={"check_same_thread": False}
    )
    app = new_app(engine)

    @app.get("/")
    def read() -> int:
        with engine.connect() as first, engine.connect():
            return int(first.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def a_pool_that_asserts_one_user(urls: Urls) -> Pattern:
    engine = create_engine(urls.sync, poolclass=AssertionPool)
    app, turn = new_app(engine), Lock()

    @app.get("/")
    def read() -> int:
        with turn, engine.connect() as connection:
            return int(connection.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def a_primary_and_a_replica(urls: Urls) -> Pattern:
    primary, replica = create_async_engine(urls.asynchronous), create_async_engine(urls.asynchronous)
    dbwatch.watch(primary, "primary")
    dbwatch.watch(replica, "replica")
    app = new_app(primary, replica)

    @app.get("/")
    async def read_both() -> int:
        async with AsyncSession(primary) as writing, AsyncSession(replica) as reading:
            await writing.execute(text("SELECT 1"))
            return int(await reading.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def a_connection_of_the_lifespan(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            app.state.connection = connection
            yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(dbwatch.DBWatchMiddleware)
    turn = asyncio.Lock()

    @app.get("/")
    async def read() -> int:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
        async with turn:
            return int(await app.state.connection.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def two_apps_in_one(urls: Urls) -> Pattern:
    engine = create_engine(urls.sync)
    outer, inner = new_app(engine), new_app(watched=True)

    @cache
    def sessions() -> type[Session]:
        return Session

    @inner.get("/items/{number}")
    def read(number: int) -> int:
        with sessions()(engine) as session:
            return int(session.scalar(text("SELECT 7")) or 0)

    @outer.get("/items/{number}")
    def read_outside(number: int) -> int:
        return read(number)

    outer.mount("/tenants/{tenant}", inner)
    return Pattern(outer, over_uvicorn("/tenants/3/items/4", "/items/4"))
