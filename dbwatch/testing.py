"""Trouble on purpose: how does an app behave when its pool is empty, its database slow, a connection leaked?

For the tests of an app. ``with`` for an Engine, ``async with`` for an AsyncEngine; ``with`` for both with :func:`slow`.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from threading import Thread, get_ident
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Engine, Pool
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from dbwatch import leaks
from dbwatch.context import REQUEST
from dbwatch.judgement import request_ended
from dbwatch.ledger import LEDGER
from dbwatch.pools import pool_limit
from dbwatch.records import Request
from dbwatch.runtime import flush, install

_EXECUTING: Final = ("do_execute", "do_executemany", "do_execute_no_params")


class _Taken:
    """Connections taken for as long as a block runs."""

    def __init__(self, engine: Engine | AsyncEngine) -> None:
        if not isinstance(engine, Engine | AsyncEngine):
            raise TypeError(f"dbwatch.testing takes a SQLAlchemy Engine or AsyncEngine, not {type(engine).__name__}.")
        install()
        self._engine = engine
        self._connections: list[Any] = []

    @property
    def _pool(self) -> Pool:
        engine = self._engine.sync_engine if isinstance(self._engine, AsyncEngine) else self._engine
        return engine.pool

    def _begin(self) -> None:
        """Before the connections are taken."""

    def _end(self) -> None:
        """When they have been given back."""

    def _take(self, engine: Engine) -> None:
        raise NotImplementedError

    async def _take_async(self, engine: AsyncEngine) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        if isinstance(self._engine, AsyncEngine):
            raise TypeError(f"Use `async with` for {type(self).__name__}() of an AsyncEngine.")
        self._begin()
        try:
            self._take(self._engine)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._connections:
            self._connections.pop().close()
        self._end()

    async def __aenter__(self) -> Self:
        if not isinstance(self._engine, AsyncEngine):
            raise TypeError(f"Use `with` for {type(self).__name__}() of an Engine.")
        self._begin()
        try:
            await self._take_async(self._engine)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._connections:
            await self._connections.pop().close()
        self._end()


class exhausted(_Taken):  # noqa: N801 - reads like the context managers of contextlib
    """No connection is free while the block runs: a checkout waits, and fails as it would in production.

    Args:
        engine: the Engine or AsyncEngine.
        timeout: seconds that a checkout waits meanwhile, instead of the ``pool_timeout``; None leaves that.

    Raises:
        ValueError: the pool has no limit, so that it cannot be exhausted.
    """

    def __init__(self, engine: Engine | AsyncEngine, *, timeout: float | None = 0.1) -> None:
        super().__init__(engine)
        if pool_limit(self._pool) == math.inf or not hasattr(self._pool, "checkedout"):
            raise ValueError(f"A pool of class {type(self._pool).__name__} without a limit cannot be exhausted.")
        self._timeout = timeout
        self._before: Any = None

    def _begin(self) -> None:
        # Private, without a public setter (SQLAlchemy 2.0 and 2.1).
        pool: Any = self._pool
        self._before = pool._timeout  # noqa: SLF001
        if self._timeout is not None:
            pool._timeout = self._timeout  # noqa: SLF001

    def _end(self) -> None:
        pool: Any = self._pool
        pool._timeout = self._before  # noqa: SLF001

    def _missing(self) -> bool:
        pool: Any = self._pool
        return bool(pool.checkedout() < pool_limit(pool))

    def _take(self, engine: Engine) -> None:
        while self._missing():
            self._connections.append(engine.connect())

    async def _take_async(self, engine: AsyncEngine) -> None:
        while self._missing():
            self._connections.append(await engine.connect())


class leak(_Taken):  # noqa: N801 - as above
    """One connection is leaked while the block runs: its request, ``GET (leak)``, has ended and did not give it back.

    dbwatch reports it as it reports any leak. At the end of the block the connection is given back.
    """

    def _take(self, engine: Engine) -> None:
        request = _request()

        def take() -> None:
            REQUEST.set(request)
            self._connections.append(engine.connect())

        # A call in a thread, with a context of its own that ends with it.
        thread = Thread(target=take, name="dbwatch-leak")
        thread.start()
        thread.join()
        self._judge(request)
        leaks.settle()
        flush()

    async def _take_async(self, engine: AsyncEngine) -> None:
        request = _request()

        async def take() -> None:
            REQUEST.set(request)
            self._connections.append(await engine.connect())

        await asyncio.create_task(take())
        self._judge(request)
        await asyncio.to_thread(leaks.settle)  # the verdict takes a few turns of this loop
        flush()

    def _judge(self, request: Request) -> None:
        if not self._connections:
            raise RuntimeError("No connection could be taken to be leaked; the error is on stderr.")
        request.ended_at = perf_counter()
        leaks.judge(request)
        request.reported = True
        LEDGER.post(request_ended, request)


def _request() -> Request:
    request = Request({"type": "http", "path": "/leak"}, "GET", None, get_ident(), perf_counter())
    request.route = "(leak)"
    request.scope = None
    request.tried = True
    return request


@contextmanager
def slow(engine: Engine | AsyncEngine, seconds: float) -> Iterator[None]:
    """Every statement on the engine takes so many seconds longer while the block runs.

    The time is the statement's: a sync engine blocks its thread, an async engine waits on the event loop, and dbwatch
    counts it as executing.

    Raises:
        ValueError: ``seconds`` is negative.
    """
    if seconds < 0:
        raise ValueError(f"slow() takes a number of seconds from 0 up, not {seconds!r}.")
    dialect = (engine.sync_engine if isinstance(engine, AsyncEngine) else engine).dialect

    def wait() -> None:
        if dialect.is_async:
            await_only(asyncio.sleep(seconds))
        else:
            time.sleep(seconds)

    for name in _EXECUTING:
        setattr(dialect, name, _slowed(getattr(dialect, name), wait))
    try:
        yield
    finally:
        for name in _EXECUTING:
            delattr(dialect, name)


def _slowed(original: Callable[..., None], wait: Callable[[], Any]) -> Callable[..., None]:
    def do_execute(cursor: Any, *args: Any, **kwargs: Any) -> None:
        original(_SlowCursor(cursor, wait), *args, **kwargs)

    return do_execute


class _SlowCursor:
    """A driver's cursor that waits before it executes: within what the hooks of dbwatch measure."""

    def __init__(self, cursor: Any, wait: Callable[[], Awaitable[None] | None]) -> None:
        self._cursor = cursor
        self._wait = wait

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        self._wait()
        return self._cursor.execute(*args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        self._wait()
        return self._cursor.executemany(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
