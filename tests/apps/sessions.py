"""Correct patterns of sessions and transactions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends, HTTPException
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.apps.correct import Pattern, Urls, correct, new_app
from tests.apps.visits import over_uvicorn

INSERT = text("INSERT INTO notes (body) VALUES ('a note')")


@correct
def a_session_that_its_dependency_closes(urls: Urls) -> Pattern:
    engine = create_engine(urls.sync)
    app = new_app(engine)

    def get_db() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/")
    def read(db: Annotated[Session, Depends(get_db)]) -> int:
        return int(db.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def an_async_session_that_its_dependency_closes(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)
    sessions = async_sessionmaker(engine)
    app = new_app(engine)

    async def get_db() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    @app.get("/")
    async def read(db: Annotated[AsyncSession, Depends(get_db)]) -> int:
        return int(await db.scalar(text("SELECT 7")) or 0)

    return Pattern(app)


@correct
def changes_that_are_committed(urls: Urls) -> Pattern:
    # One connection: SQLite has one writer at a time.
    engine = create_engine(urls.sync, pool_size=5 if urls.is_postgres else 1, max_overflow=0)
    app = new_app(engine)

    @app.get("/by-hand")
    def by_hand() -> None:
        with Session(engine) as session:
            session.execute(INSERT)
            session.commit()

    @app.get("/by-block")
    def by_block() -> None:
        with engine.begin() as connection:
            connection.execute(INSERT)

    return Pattern(app, over_uvicorn("/by-hand", "/by-block"))


@correct
def changes_that_are_rolled_back_on_purpose(urls: Urls) -> Pattern:
    engine = create_engine(urls.sync, pool_size=5 if urls.is_postgres else 1, max_overflow=0)
    app = new_app(engine)

    @app.get("/")
    def preview() -> int:
        with Session(engine) as session:
            session.execute(INSERT)
            notes = session.scalar(text("SELECT 7"))
            session.rollback()
            return int(notes or 0)

    return Pattern(app)


@correct
def changes_that_are_rolled_back_with_an_error(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous, pool_size=5 if urls.is_postgres else 1, max_overflow=0)
    app = new_app(engine)

    async def get_db() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.get("/")
    async def conflict(db: Annotated[AsyncSession, Depends(get_db)]) -> None:
        await db.execute(INSERT)
        raise HTTPException(409)

    return Pattern(app, over_uvicorn("/", status=409))


@correct
def savepoints(urls: Urls) -> Pattern:
    engine = create_engine(urls.sync, pool_size=5 if urls.is_postgres else 1, max_overflow=0)
    app = new_app(engine)

    @app.get("/")
    def write() -> None:
        with Session(engine) as session:
            session.execute(INSERT)
            with contextlib.suppress(IntegrityError), session.begin_nested():
                session.execute(text("INSERT INTO notes (body) VALUES (NULL)"))
            session.commit()

    return Pattern(app)


@correct
def statements_that_commit_themselves(urls: Urls) -> Pattern:
    engine = create_engine(
        urls.sync, isolation_level="AUTOCOMMIT", pool_size=5 if urls.is_postgres else 1, max_overflow=0
    )
    app = new_app(engine)

    @app.get("/")
    def write() -> None:
        with engine.connect() as connection:
            connection.execute(INSERT)

    return Pattern(app)


@correct
def sync_code_run_by_an_async_session(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)
    app = new_app(engine)

    def count(session: Session) -> int:
        return int(session.scalar(text("SELECT 7")) or 0)

    @app.get("/")
    async def read() -> int:
        async with AsyncSession(engine) as session:
            return await session.run_sync(count)

    return Pattern(app)


@correct
def one_session_after_the_other(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)
    app = new_app(engine)

    @app.get("/")
    async def read() -> int:
        total = 0
        for number in range(3):
            async with AsyncSession(engine) as session:
                total += int(await session.scalar(text(f"SELECT {number}")) or 0)
        return total

    return Pattern(app)


@correct
def a_scoped_session_that_is_removed(urls: Urls) -> Pattern:
    engine = create_engine(urls.sync)
    sessions = scoped_session(sessionmaker(engine))
    app = new_app(engine)

    @app.get("/")
    def read() -> int:
        try:
            return int(sessions.scalar(text("SELECT 7")) or 0)
        finally:
            sessions.remove()

    return Pattern(app)


@correct
def an_async_scoped_session_that_is_removed(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous)
    sessions = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    app = new_app(engine)

    @app.get("/")
    async def read() -> int:
        try:
            return int(await sessions.scalar(text("SELECT 7")) or 0)
        finally:
            await sessions.remove()

    return Pattern(app)


@correct
def queries_that_are_cancelled(urls: Urls) -> Pattern:
    engine = create_async_engine(urls.asynchronous, pool_size=20)
    app = new_app(engine)

    @app.get("/cancels")
    async def give_up() -> str:
        try:
            async with asyncio.timeout(0.05), AsyncSession(engine) as session:
                await session.execute(text(urls.slow))
        except TimeoutError:
            return "took too long"
        return "done"

    @app.get("/")
    async def read() -> int:
        async with AsyncSession(engine) as session:
            return int(await session.scalar(text("SELECT 7")) or 0)

    return Pattern(app, over_uvicorn("/cancels", *["/"] * 7))
