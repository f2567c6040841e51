"""The driver's own connection in the app's hands: COPY, notifications, its own statements.

What the app does with ``raw_connection.driver_connection`` (asyncpg: ``(await c.get_raw_connection())
.driver_connection``) or with a cursor of its own (``connection.connection.cursor()``) passes no hook, so nothing is
said about whether the hold was idle.
"""

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from sqlalchemy.pool import base

from dbwatch.guard import guarded
from dbwatch.hooks.pool import CHECKOUT_KEY


def wrap_driver_connection(original: property) -> property:
    """``driver_connection`` of the pool's proxy, noted."""

    def driver_connection(self: Any) -> Any:
        handed_out(self)
        return original.__get__(self)

    return property(driver_connection, doc=original.__doc__)


def wrap_cursor(original: Callable[..., Any]) -> Callable[..., Any]:
    """``cursor()`` of the pool's proxy, noted unless a statement of SQLAlchemy asks for it."""

    @functools.wraps(original)
    def cursor(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _runs_a_statement(sys._getframe(1)):
            handed_out(self)
        return original(self, *args, **kwargs)

    return cursor


def _runs_a_statement(frame: FrameType) -> bool:
    """True in ``create_cursor()`` and its kin of an execution context, SQLAlchemy's or another dialect's."""
    name = frame.f_code.co_name
    return name.startswith("create_") and name.endswith("cursor")


@guarded("driver.handed_out")
def handed_out(proxy: Any) -> None:
    """The app asked for the driver's connection."""
    checkout = proxy.info.get(CHECKOUT_KEY)
    if checkout is not None:
        checkout.streaming = True


def install() -> None:
    """Wrap two names of the pool's proxy class, which is private; without them, such use counts as idle."""
    proxy: Any = getattr(base, "_ConnectionFairy", None)
    names = getattr(proxy, "__dict__", {})
    original, cursor = names.get("driver_connection"), names.get("cursor")
    if isinstance(original, property):
        proxy.driver_connection = wrap_driver_connection(original)
    if callable(cursor):
        proxy.cursor = wrap_cursor(cursor)
