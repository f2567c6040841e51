"""The driver's own connection in the app's hands: COPY, notifications, its own statements.

What the app does with ``raw_connection.driver_connection`` (asyncpg: ``(await c.get_raw_connection())
.driver_connection``) passes no hook, so nothing is said about whether the hold was idle.
"""

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


@guarded("driver.handed_out")
def handed_out(proxy: Any) -> None:
    """The app asked for the driver's connection."""
    checkout = proxy.info.get(CHECKOUT_KEY)
    if checkout is not None:
        checkout.streaming = True


def install() -> None:
    """Wrap the property of the pool's proxy class, whose name is private; without it, such use counts as idle."""
    proxy: Any = getattr(base, "_ConnectionFairy", None)
    original = getattr(proxy, "__dict__", {}).get("driver_connection")
    if isinstance(original, property):
        proxy.driver_connection = wrap_driver_connection(original)
