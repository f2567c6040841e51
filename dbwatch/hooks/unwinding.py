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


def wrap_closing(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """``close()`` or ``__aexit__()`` of an asynchronous session or connection, with an exception under way noted."""

    @functools.wraps(original)
    async def closing(self: Any, *args: Any, **options: Any) -> None:
        if sys.exc_info()[0] is None:
            return await original(self, *args, **options)
        token = _UNDER_WAY.set(True)
        try:
            return await original(self, *args, **options)
        finally:
            _UNDER_WAY.reset(token)

    return closing


def install() -> None:
    """Wrap what closes asynchronously, if that can be used at all."""
    try:
        from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession  # noqa: PLC0415  2.1 needs greenlet to import it
    except ImportError:
        return
    for kind in (AsyncSession, AsyncConnection):
        for name in ("close", "__aexit__"):
            setattr(kind, name, wrap_closing(kind.__dict__[name]))
