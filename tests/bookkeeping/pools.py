"""The pools that the state machine drives, sync and async through the same calls."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import AsyncAdaptedQueuePool, Connection, Engine, NullPool, Pool, QueuePool, StaticPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from tests.bookkeeping.counted import CountedConnection, CountedServer

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """A class of pool and how it is driven."""

    pool: type[Pool]
    is_async: bool = False

    def __str__(self) -> str:
        return f"{'async-' if self.is_async else ''}{self.pool.__name__}"

    @property
    def queued(self) -> bool:
        """True if the pool has a size, a limit and a timeout."""
        return issubclass(self.pool, QueuePool)

    @property
    def shared(self) -> bool:
        """True if all checkouts share one connection."""
        return self.pool is StaticPool


QUEUE = Kind(QueuePool)
ASYNC_QUEUE = Kind(AsyncAdaptedQueuePool, is_async=True)
NULL = Kind(NullPool)
ASYNC_NULL = Kind(NullPool, is_async=True)
STATIC = Kind(StaticPool)


class Driven:
    """An engine on counted connections. ``run`` runs what SQLAlchemy's sync API says, on either kind of engine."""

    def __init__(self, kind: Kind, server: CountedServer, **options: Any) -> None:
        self.kind = kind
        self._runner = asyncio.Runner()
        arguments = {"factory": server.connect, "check_same_thread": False}
        options = {"poolclass": kind.pool, "connect_args": arguments, **options}
        if kind.is_async:
            self.engine: Engine = create_async_engine("sqlite+aiosqlite://", **options).sync_engine
        else:
            self.engine = create_engine("sqlite://", **options)

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call a function, in a greenlet on an event loop where the engine is asynchronous."""
        if self.kind.is_async:
            return self.run_async(lambda: greenlet_spawn(call, *arguments))
        return call(*arguments)

    def run_async(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine on the engine's loop."""

        async def main() -> T:
            return await call()

        return self._runner.run(main())

    async def call(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call a function from a coroutine: in a greenlet where the engine is asynchronous."""
        if self.kind.is_async:
            return await greenlet_spawn(call, *arguments)
        return call(*arguments)

    def collect_garbage(self) -> None:
        """Let the garbage collector find what has been dropped; beside the greenlet, as it mostly happens."""

        async def main() -> None:
            gc.collect()
            await asyncio.sleep(0)

        if self.kind.is_async:
            self._runner.run(main())
        else:
            gc.collect()

    def close(self) -> None:
        """End the event loop."""
        self._runner.close()


class Held:
    """A connection that is out: the pool's proxy, and the Connection around it where there is one."""

    def __init__(self, proxy: PoolProxiedConnection, connection: Connection | None, pool: Pool) -> None:
        self.proxy = proxy
        self.connection = connection
        self.pool = pool
        self.underneath = counted(proxy.dbapi_connection)
        self.leaked = False

    @classmethod
    def take(cls, engine: Engine, *, raw: bool) -> "Held":
        """Check a connection out, bare or in a Connection."""
        pool = engine.pool
        if raw:
            return cls(engine.raw_connection(), None, pool)
        connection = engine.connect()
        return cls(connection.connection, connection, pool)

    def forget(self) -> None:
        """Drop it without giving it back."""
        del self.proxy, self.connection

    def execute(self) -> None:
        """Execute a statement."""
        if self.connection is not None:
            self.connection.exec_driver_sql("SELECT 1").close()
        else:
            cursor = self.proxy.cursor()
            cursor.execute("SELECT 1")
            cursor.close()

    def close(self) -> None:
        """Give it back."""
        (self.connection or self.proxy).close()

    def invalidate(self) -> None:
        """Throw the connection away."""
        (self.connection or self.proxy).invalidate()

    def soft_invalidate(self) -> None:
        """Have it replaced when it is next checked out."""
        self.proxy.invalidate(soft=True)

    def detach(self) -> None:
        """Take it out of the pool for good."""
        (self.connection or self.proxy).detach()


def counted(dbapi_connection: Any) -> CountedConnection:
    """The counted connection under SQLAlchemy's adapter for an asynchronous driver, or itself."""
    found = dbapi_connection
    if not isinstance(found, CountedConnection):
        found = found.driver_connection._conn
    assert isinstance(found, CountedConnection)
    return found


def idle_entries(pool: Pool) -> list[Any]:
    """The connection records that lie in a pool with a connection in them, read where the pool keeps them."""
    if isinstance(pool, QueuePool):
        queue: Any = pool._pool
        entries = list(queue.queue if hasattr(queue, "queue") else queue._queue._queue)
    elif isinstance(pool, StaticPool):
        entries = [pool.__dict__["connection"]] if "connection" in pool.__dict__ else []
    else:
        entries = []
    return [entry for entry in entries if entry.dbapi_connection is not None]
