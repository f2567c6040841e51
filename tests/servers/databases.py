"""Fresh engines on every combination of database and driver that the tests run on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from sqlalchemy import AsyncAdaptedQueuePool, Engine, NullPool, QueuePool, create_engine, make_url
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

#: True of a SQLAlchemy (2.0.30) whose files of aiosqlite have no queue pool by default, and close nothing that was
#: dropped. It also pings asynchronous drivers of MySQL in a way that fails, and a stream of asyncpg that is cancelled
#: leaves its connection unusable in the pool.
OLD_SQLALCHEMY = SQLiteDialect_aiosqlite.get_pool_class(make_url("sqlite+aiosqlite:///file.db")) is NullPool

SYNC = ("sqlite-pysqlite", "postgres-psycopg")
ASYNC = ("sqlite-aiosqlite", "postgres-psycopg-async", "postgres-asyncpg")
#: Those that fewer tests run on.
MORE_SYNC = ("postgres-psycopg2", "mariadb-pymysql", "pgbouncer-psycopg")
MORE_ASYNC = ("mariadb-aiomysql", "mariadb-asyncmy", "pgbouncer-asyncpg")

#: What an engine needs besides its URL. Behind a PgBouncer in transaction mode, prepared statements must not outlive
#: their transaction, nor share a name.
_OPTIONS: dict[str, dict[str, Any]] = {
    "pgbouncer-psycopg": {"connect_args": {"prepare_threshold": None}},
    "pgbouncer-asyncpg": {
        "connect_args": {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"__dbwatch_{uuid4()}__",
        }
    },
}


class DatabaseServer(Protocol):
    """What a test needs to know of a server to connect to it."""

    def url(self, driver: str = ...) -> str:
        """The SQLAlchemy URL for a driver."""


@dataclass
class SyncDatabase:
    """A database and a sync driver. ``engine`` makes a fresh engine, on a queue pool unless told otherwise."""

    name: str
    url: str
    engines: list[Engine] = field(default_factory=list)

    def engine(self, **options: Any) -> Engine:
        """A new engine, disposed of at the end of the test."""
        engine = create_engine(self.url, **{"poolclass": QueuePool, **_OPTIONS.get(self.name, {}), **options})
        self.engines.append(engine)
        return engine

    def dispose(self) -> None:
        """Dispose of every engine made so far."""
        for engine in self.engines:
            engine.dispose()


@dataclass
class AsyncDatabase:
    """A database and an async driver. ``engine`` makes a fresh engine, on a queue pool unless told otherwise."""

    name: str
    url: str
    engines: list[AsyncEngine] = field(default_factory=list)

    def engine(self, **options: Any) -> AsyncEngine:
        """A new engine, disposed of at the end of the test on the test's event loop.

        One that was used on another loop must be disposed of there, for example in the lifespan of the app.
        """
        pool = {"poolclass": AsyncAdaptedQueuePool}
        engine = create_async_engine(self.url, **{**pool, **_OPTIONS.get(self.name, {}), **options})
        self.engines.append(engine)
        return engine

    async def dispose(self) -> None:
        """Dispose of every engine made so far."""
        for engine in self.engines:
            await engine.dispose()


@asynccontextmanager
async def database_at(name: str, url: str) -> AsyncIterator[SyncDatabase | AsyncDatabase]:
    """One of the databases above at a URL; its engines are disposed of at the end."""
    if name in (*SYNC, *MORE_SYNC):
        sync_database = SyncDatabase(name, url)
        yield sync_database
        sync_database.dispose()
    else:
        async_database = AsyncDatabase(name, url)
        yield async_database
        await async_database.dispose()


def database_url(name: str, directory: Path, server: DatabaseServer | None) -> str:
    """The URL of one of the databases above; SQLite's file lies in ``directory``."""
    kind, _, driver = name.partition("-")
    if kind == "sqlite":
        return f"sqlite+{driver}:///{directory / 'test.db'}"
    assert server is not None
    return server.url(driver.replace("-", "_"))
