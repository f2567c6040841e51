"""The ORM's word on a ROLLBACK: did the app ask for it?

``Session.close()`` rolls back by itself, and on the connection that looks the same as ``Session.rollback()``; only the
latter is followed by the session's ``after_rollback`` (2.0 and 2.1). AsyncSession runs a Session inside.
"""

from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from dbwatch.context import REQUEST
from dbwatch.guard import guarded
from dbwatch.hooks.pool import CHECKOUT_KEY


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
    if request is None:
        return
    for checkout in list(request.open):
        if checkout.session == id(session):
            checkout.rolled_back = 0


def install() -> None:
    """Listen on every session."""
    event.listen(Session, "after_begin", on_after_begin)
    event.listen(Session, "after_rollback", on_after_rollback)
