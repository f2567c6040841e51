"""Stale connections: the first statement on a pooled connection fails because the server had closed it."""

import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from dbwatch import judgement
from dbwatch.callsites import call_site
from dbwatch.guard import guarded
from dbwatch.hooks.pool import CHECKOUT_KEY

#: A statement that ran for longer than this before the connection broke may well have found it alive.
ANSWER_SECONDS = 1.0


@guarded("errors.handle")
def on_handle_error(context: Any) -> None:
    """An error of the driver. Must return None: an exception would replace the app's own.

    ``is_disconnect`` alone accuses cancelled queries; only a real disconnect also invalidates the pool.
    """
    if not context.is_disconnect or not context.invalidate_pool_on_disconnect or context.is_pre_ping:
        return
    connection = context.connection
    if connection is None:
        return
    try:
        checkout = connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001  an invalidated connection has no info
        return
    # Opened for this checkout, or in use before: then it died under way, which no test before use can prevent.
    if checkout is None or checkout.connect is not None or checkout.statements > 1 or checkout.request is None:
        return
    if checkout.executing > ANSWER_SECONDS:
        return
    attributes = checkout.pool.attributes
    # SQLite has no server that could have closed it, but SQLAlchemy 2.1.9 may give a connection to two (``sharing``).
    if attributes.get("pre_ping") == "false" and attributes.get("dialect") != "sqlite":
        judgement.stale(checkout, call_site(sys._getframe(1)), type(context.original_exception).__name__)


def install() -> None:
    """Listen on every engine. A dialect event: unlike connection events it costs nothing to speak of."""
    event.listen(Engine, "handle_error", on_handle_error)
