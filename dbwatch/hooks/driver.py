"""The driver's own connection in the app's hands: COPY, notifications, its own statements.

What the app does with ``raw_connection.driver_connection`` (asyncpg: ``(await c.get_raw_connection())
.driver_connection``) or with a cursor of its own (``connection.connection.cursor()``) passes no hook, so nothing is
said about whether the hold was idle.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy.pool import base

from dbwatch.guard import guarded
from dbwatch.hooks.pool import CHECKOUT_KEY

#: The methods of an execution context that ask for a cursor, SQLAlchemy's or another dialect's (2.0 and 2.1).
_RUN_A_STATEMENT = frozenset({"create_cursor", "create_default_cursor", "create_server_side_cursor"})


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
        if sys._getframe(1).f_code.co_name not in _RUN_A_STATEMENT:
            handed_out(self)
        return original(self, *args, **kwargs)

    return cursor


@guarded("driver.handed_out")
def handed_out(proxy: Any) -> None:
    """The app asked for the driver's connection."""
    checkout = proxy.info.get(CHECKOUT_KEY)
    if checkout is not None:
        checkout.streaming = True


def commits_by_itself(dialect: Any, connection: Any) -> bool:
    """True if the driver's connection is in autocommit mode.

    SQLAlchemy tells only in the later releases of 2.0, and knows only the older of the two switches of sqlite3 (3.12).

    Raises:
        AttributeError, NotImplementedError: it cannot be told.
    """
    if dialect.name == "sqlite":
        return connection.isolation_level is None or getattr(connection, "autocommit", None) is True
    detect = getattr(dialect, "detect_autocommit_setting", None)
    if detect is not None:
        return bool(detect(connection))
    for one in (connection, getattr(connection, "driver_connection", None)):
        ask = getattr(one, "get_autocommit", None)  # of MySQL's drivers, whose autocommit() switches it
        if ask is not None:
            return bool(ask())
    setting = connection.autocommit
    if not isinstance(setting, bool):
        raise NotImplementedError
    return setting


def install() -> None:
    """Wrap two names of the pool's proxy class, which is private; without them, such use counts as idle."""
    proxy: Any = getattr(base, "_ConnectionFairy", None)
    names = getattr(proxy, "__dict__", {})
    original, cursor = names.get("driver_connection"), names.get("cursor")
    if isinstance(original, property):
        proxy.driver_connection = wrap_driver_connection(original)
    if callable(cursor):
        proxy.cursor = wrap_cursor(cursor)
