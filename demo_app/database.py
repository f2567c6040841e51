"""The two engines of the app and the session of a request."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import AsyncAdaptedQueuePool, Connection, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

import dbwatch
from demo_app.models import Base
from demo_app.seed import seed
from demo_app.settings import Settings

#: Any number that no other program uses for its own lock of this kind.
_SCHEMA_LOCK = 7315


class Database:
    """One database by way of a sync and an async engine, each with its own pool and session factory."""

    def __init__(self, settings: Settings) -> None:
        options: dict[str, Any] = {
            "pool_size": settings.pool_size,
            "max_overflow": settings.max_overflow,
            "pool_timeout": settings.pool_timeout,
            "pool_pre_ping": settings.pool_pre_ping,
        }
        self.engine = create_engine(settings.sync_url, **options)
        self.async_engine = create_async_engine(settings.async_url, poolclass=AsyncAdaptedQueuePool, **options)
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)
        self.async_sessions = async_sessionmaker(self.async_engine, expire_on_commit=False)
        for engine in (self.engine, self.async_engine.sync_engine):
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", _configure_sqlite)
        dbwatch.watch(self.engine, name="sync")
        dbwatch.watch(self.async_engine, name="async")

    def prepare(self, setup: Callable[[Session], None] | None = None) -> None:
        """Create the tables, fill empty ones with the seed data, and let ``setup`` add its own."""
        with self.sessions.begin() as session:
            connection = session.connection()
            _lock_schema(connection)
            Base.metadata.create_all(connection)
            seed(session)
            if setup is not None:
                setup(session)

    async def close(self) -> None:
        """Close the connections of both pools."""
        self.engine.dispose()
        await self.async_engine.dispose()


def database_of(request: Request) -> Database:
    """The database of the app that serves the request."""
    database: Database = request.app.state.database
    return database


def get_db(request: Request) -> Iterator[Session]:
    """The session of a request: committed when the endpoint returns, rolled back when it raises, closed in any case."""
    with database_of(request).sessions.begin() as session:
        yield session


async def get_async_db(request: Request) -> AsyncIterator[AsyncSession]:
    """The session of a request to an async endpoint; as ``get_db``."""
    async with database_of(request).async_sessions.begin() as session:
        yield session


# With the scope "function" the transaction ends before the response is sent: who reads 201 can rely on the commit, and
# a slow client does not keep the connection.
DB = Annotated[Session, Depends(get_db, scope="function")]
AsyncDB = Annotated[AsyncSession, Depends(get_async_db, scope="function")]


def _lock_schema(connection: Connection) -> None:
    """Let one worker at a time look for the tables and create them, until the end of the transaction."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEMA_LOCK})


def _configure_sqlite(connection: Any, _record: object) -> None:
    """SQLite checks foreign keys only when told to, and lets readers work beside a writer only in WAL mode."""
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", "busy_timeout = 10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
