"""Fresh engines on every combination of database and driver that the tests run on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import AsyncAdaptedQueuePool, Engine, QueuePool, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

SYNC = ("sqlite-pysqlite", "postgres-psycopg")
ASYNC = ("sqlite-aiosqlite", "postgres-psycopg-async", "postgres-asyncpg")


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
        engine = create_engine(self.url, **{"poolclass": QueuePool, **options})
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
        engine = create_async_engine(self.url, **{"poolclass": AsyncAdaptedQueuePool, **options})
        self.engines.append(engine)
        return engine

    async def dispose(self) -> None:
        """Dispose of every engine made so far."""
        for engine in self.engines:
            await engine.dispose()


def database_url(name: str, directory: Path, postgres: DatabaseServer | None) -> str:
    """The URL of one of SYNC or ASYNC; SQLite's file lies in ``directory``."""
    server, _, driver = name.partition("-")
    if server == "sqlite":
        return f"sqlite+{driver}:///{directory / 'test.db'}"
    assert postgres is not None
    return postgres.url(driver.replace("-", "_"))
