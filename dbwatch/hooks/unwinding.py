"""What is lost where SQLAlchemy's asyncio leaves a block, in a greenlet and in a task of its own besides: the exception
that is under way, and the line of the app. Both are noted in context variables before that.

Of a connection that is given back while an exception is under way nobody forgot to commit the changes. In a thread
``sys.exc_info()`` tells.
"""

import functools
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any

from dbwatch.callsites import LEAVING, call_site
from dbwatch.guard import guarded
from dbwatch.records import Site

_UNDER_WAY: ContextVar[bool] = ContextVar("dbwatch_unwinding", default=False)


def unwinding() -> bool:
    """True if what runs now runs because an exception was raised: in a ``with``, an ``except`` or a ``finally``."""
    return _UNDER_WAY.get() or sys.exc_info()[0] is not None


def wrap_close(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """``close()`` of an asynchronous session or connection, with an exception under way noted. A coroutine function as
    it was: Starlette runs any other as a background task in a thread.
    """

    @functools.wraps(original)
    async def close(self: Any, *args: Any, **options: Any) -> None:
        if sys.exc_info()[0] is None:
            return await original(self, *args, **options)
        return await _unwinding(original(self, *args, **options))

    return close


def wrap_exit(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """``__aexit__()`` of those, which only ``async with`` calls: no coroutine of its own where nothing is noted."""

    @functools.wraps(original)
    def __aexit__(self: Any, *args: Any, **options: Any) -> Awaitable[None]:
        leaving = original(self, *args, **options)
        return leaving if sys.exc_info()[0] is None else _unwinding(leaving)

    return __aexit__


async def _unwinding(closing: Awaitable[None]) -> None:
    token = _UNDER_WAY.set(True)
    try:
        await closing
    finally:
        _reset(_UNDER_WAY, token)


def _reset(variable: ContextVar[Any], token: Token[Any]) -> None:
    """Undo a setting. A coroutine that was left is closed by the garbage collector in somebody else's context."""
    with suppress(ValueError):
        variable.reset(token)


def wrap_commit_and_exit(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """``__aexit__()`` of ``async_sessionmaker.begin()``, which flushes and commits: the first statement of a block that
    only adds objects runs here. The others run no SQL but a ROLLBACK.
    """

    @functools.wraps(original)
    async def __aexit__(self: Any, *args: Any) -> None:
        token = leaves()
        try:
            await original(self, *args)
        finally:
            if token is not None:
                _reset(LEAVING, token)

    return __aexit__


@guarded("unwinding.leaves")
def leaves() -> Token[Site]:
    """A block is left: note where, for the task that does it. Frames are read now: a suspended one leads nowhere."""
    return LEAVING.set(call_site(sys._getframe(1)))


def install() -> None:
    """Wrap what closes asynchronously, if that can be used at all."""
    try:
        # SQLAlchemy 2.1 needs greenlet to import them.
        from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession  # noqa: PLC0415
    except ImportError:
        return
    for kind in (AsyncSession, AsyncConnection):
        kind.close = wrap_close(kind.close)  # type: ignore[method-assign, assignment]
        kind.__aexit__ = wrap_exit(kind.__aexit__)  # type: ignore[method-assign, assignment]
    with suppress(ImportError):  # its name is private (2.0 and 2.1)
        from sqlalchemy.ext.asyncio.session import _AsyncSessionContextManager as Block  # noqa: PLC0415

        Block.__aexit__ = wrap_commit_and_exit(Block.__aexit__)  # type: ignore[method-assign, assignment]
