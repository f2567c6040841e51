"""Whether an exception is under way while a connection is given back: then nobody forgot to commit.

In a thread ``sys.exc_info()`` tells. SQLAlchemy's asyncio closes in a greenlet, and ``async with`` in a task of its own
besides, where no exception can be seen any more; there it is noted in a context variable before that.
"""

import functools
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

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
        _UNDER_WAY.reset(token)


def install() -> None:
    """Wrap what closes asynchronously, if that can be used at all."""
    try:
        from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession  # noqa: PLC0415  2.1 needs greenlet to import it
    except ImportError:
        return
    for kind in (AsyncSession, AsyncConnection):
        kind.close = wrap_close(kind.close)  # type: ignore[method-assign, assignment]
        kind.__aexit__ = wrap_exit(kind.__aexit__)  # type: ignore[method-assign, assignment]
