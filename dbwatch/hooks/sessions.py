"""The ORM's word on a ROLLBACK: did the app ask for it?

``Session.close()`` rolls back by itself, and on the connection that looks the same as ``Session.rollback()``; only the
latter is followed by the session's ``after_rollback`` (2.0 and 2.1). AsyncSession runs a Session inside.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from dbwatch.context import REQUEST
from dbwatch.guard import guarded
from dbwatch.hooks.pool import CHECKOUT_KEY
from dbwatch.pools import POOLS
from dbwatch.records import Checkout


@guarded("sessions.after_begin")
def on_after_begin(session: Any, _transaction: Any, connection: Any) -> None:
    """A session began a transaction on a connection: from now on it is an ORM connection."""
    try:
        checkout = connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001  an invalidated connection has no info
        return
    if checkout is not None:
        checkout.session = id(session)


@guarded("sessions.after_rollback")
def on_after_rollback(session: Any) -> None:
    """The app rolled back, explicitly or by an exception through ``session.begin()``: nothing is lost by accident."""
    request = REQUEST.get()
    if request is not None and _take_back(request.open, session):
        return
    # Rolled back where the request cannot be seen, as in run_in_executor().
    for pool in POOLS.watched():
        if _take_back(pool.open, session):
            return


def _take_back(checkouts: Iterable[Checkout], session: object) -> bool:
    found = [checkout for checkout in list(checkouts) if checkout.session == id(session)]
    for checkout in found:
        checkout.rolled_back = 0
    return bool(found)


def install() -> None:
    """Listen on every session."""
    event.listen(Session, "after_begin", on_after_begin)
    event.listen(Session, "after_rollback", on_after_rollback)
