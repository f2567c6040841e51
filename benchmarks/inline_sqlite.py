"""An asynchronous SQLite driver without the thread that aiosqlite gives each connection.

Handing each call over to that thread and back costs ten times what is measured here, and never the same. Through this
driver, which blocks the loop for some microseconds as no real one should, a request runs in one thread from beginning
to end, on SQLAlchemy's asyncio path.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import aiosqlite


class InlineConnection(aiosqlite.Connection):
    """Runs at once what aiosqlite would send to its thread."""

    def __init__(self, path: str) -> None:
        super().__init__(lambda: sqlite3.connect(path), 64)
        self._connection = sqlite3.connect(path)

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    async def close(self) -> None:
        """Close; there is no thread to stop."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def creator(path: str) -> Callable[[], Awaitable[InlineConnection]]:
    """For ``create_async_engine(..., async_creator=...)``."""

    async def connect() -> InlineConnection:
        return InlineConnection(path)

    return connect
