"""Writes that end in an exception, of which the client learns in a response of status 200, or not at all."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.findings.apps.writes import word
from tests.findings.stage import Stage

INSERT = text("INSERT INTO tags (name) VALUES (:name)")


class RefusedError(Exception):
    """An app's own reason to stop."""


def _answered(stage: Stage) -> None:
    @stage.app.exception_handler(RefusedError)
    async def say_no(_request: Request, _error: RefusedError) -> JSONResponse:
        return JSONResponse({"done": False}, status_code=200)


def failing(stage: Stage) -> None:
    """The session is closed by a block or in a ``finally``, and the transaction tried again."""
    _answered(stage)
    engine = stage.engine()

    def in_a_block() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    def in_a_finally() -> Iterator[Session]:
        session = Session(engine)
        try:
            yield session
        finally:
            session.close()

    @stage.app.get("/block")
    def refuse(session: Annotated[Session, Depends(in_a_block)]) -> None:
        session.execute(INSERT, {"name": word()})
        raise RefusedError

    @stage.app.get("/finally")
    def refuse_too(session: Annotated[Session, Depends(in_a_finally)]) -> None:
        session.execute(INSERT, {"name": word()})
        raise RefusedError

    @stage.app.get("/again")
    def try_again() -> None:
        for attempt in range(2):
            with suppress(DBAPIError), Session(engine) as session:
                session.execute(INSERT, {"name": word()})
                session.execute(text("SELECT 1" if attempt else "SELECT nothing"))
                session.commit()

    @stage.app.get("/connection")
    def try_a_connection_again() -> None:
        for attempt in range(2):
            with suppress(DBAPIError), engine.connect() as connection:
                connection.execute(INSERT, {"name": word()})
                connection.execute(text("SELECT 1" if attempt else "SELECT nothing"))
                connection.commit()


def failing_async(stage: Stage) -> None:
    """The same on the event loop, where a block closes in a task of its own."""
    _answered(stage)
    engine = stage.async_engine()

    async def in_a_block() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    async def in_a_finally() -> AsyncIterator[AsyncSession]:
        session = AsyncSession(engine)
        try:
            yield session
        finally:
            await session.close()

    @stage.app.get("/block")
    async def refuse(session: Annotated[AsyncSession, Depends(in_a_block)]) -> None:
        await session.execute(INSERT, {"name": word()})
        raise RefusedError

    @stage.app.get("/finally")
    async def refuse_too(session: Annotated[AsyncSession, Depends(in_a_finally)]) -> None:
        await session.execute(INSERT, {"name": word()})
        raise RefusedError

    @stage.app.get("/again")
    async def try_again() -> None:
        for attempt in range(2):
            with suppress(DBAPIError):
                async with AsyncSession(engine) as session:
                    await session.execute(INSERT, {"name": word()})
                    await session.execute(text("SELECT 1" if attempt else "SELECT nothing"))
                    await session.commit()

    @stage.app.get("/connection")
    async def try_a_connection_again() -> None:
        for attempt in range(2):
            with suppress(DBAPIError):
                async with engine.connect() as connection:
                    await connection.execute(INSERT, {"name": word()})
                    await connection.execute(text("SELECT 1" if attempt else "SELECT nothing"))
                    await connection.commit()
