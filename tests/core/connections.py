"""One way to take connections from sync and async engines: sync ones in threads of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Pool, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")
AnyConnection = Connection | AsyncConnection


class Connections:
    """Takes, uses and gives back connections of an engine of either kind, from a coroutine."""

    def __init__(self, engine: Engine | AsyncEngine, threads: ThreadPoolExecutor) -> None:
        self.engine = engine
        self._threads = threads

    @property
    def is_sync(self) -> bool:
        """True for a sync engine."""
        return isinstance(self.engine, Engine)

    @property
    def sync_engine(self) -> Engine:
        """The engine itself, or the sync one inside an async engine."""
        return self.engine if isinstance(self.engine, Engine) else self.engine.sync_engine

    @property
    def pool(self) -> Pool:
        """The engine's pool as it is now."""
        return self.sync_engine.pool

    async def take(self) -> AnyConnection:
        """Check a connection out."""
        if isinstance(self.engine, Engine):
            return await self.in_thread(self.engine.connect)
        return await self.engine.connect()

    async def give_back(self, *connections: AnyConnection) -> None:
        """Close connections."""
        for connection in connections:
            if isinstance(connection, AsyncConnection):
                await connection.close()
            else:
                await self.in_thread(connection.close)

    @asynccontextmanager
    async def taken(self, number: int = 1) -> AsyncIterator[list[AnyConnection]]:
        """Hold ``number`` connections for the length of the block."""
        connections = [await self.take() for _ in range(number)]
        try:
            yield connections
        finally:
            await self.give_back(*connections)

    async def execute(self, connection: AnyConnection, statement: str) -> None:
        """Execute a statement and drop its result."""
        if isinstance(connection, AsyncConnection):
            await connection.execute(text(statement))
        else:
            await self.in_thread(lambda: connection.execute(text(statement)).close())

    async def invalidate(self, connection: AnyConnection, *, soft: bool = False) -> None:
        """Throw away what is under a connection: at once, or softly, when it is taken the next time."""
        if not soft:
            closing = connection.invalidate()
            if closing is not None:
                await closing
        elif isinstance(connection, AsyncConnection):
            await connection.run_sync(lambda sync: _record(sync).invalidate(soft=True))
        else:
            _record(connection).invalidate(soft=True)

    async def detach(self, connection: AnyConnection) -> None:
        """Take a connection out of its pool for good."""
        if isinstance(connection, AsyncConnection):
            await connection.run_sync(lambda sync: sync.detach())
        else:
            connection.detach()

    async def dispose(self) -> None:
        """Dispose of the engine's pool; the engine makes another."""
        if isinstance(self.engine, Engine):
            self.engine.dispose()
        else:
            await self.engine.dispose()

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Call a function that may block, as ``asyncio.to_thread`` does: the thread sees the caller's context."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, call)


async def soon(condition: Callable[[], Any], timeout: float = 20.0) -> None:
    """Wait in a coroutine until the condition holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


def _record(connection: Connection) -> Any:
    """The pool's entry under a connection."""
    return connection.connection._connection_record
