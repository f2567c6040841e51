"""What the ORM alone knows: where a session was made, and whether the app asked for a ROLLBACK.

The line that takes a connection is often innocent: it was given a session that another line made and nobody closes.
``Session.close()`` rolls back by itself, and on the connection that looks the same as ``Session.rollback()``; only the
latter is followed by the session's ``after_rollback`` (2.0 and 2.1). AsyncSession runs a Session inside.
"""

import functools
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any
from weakref import ref

from sqlalchemy import event
from sqlalchemy.orm import Session

from dbwatch import judgement
from dbwatch.callsites import APP_CODE, call_site
from dbwatch.context import REQUEST
from dbwatch.guard import guarded
from dbwatch.hooks.pool import CHECKOUT_KEY
from dbwatch.hooks.switch import SWITCH
from dbwatch.pools import POOLS
from dbwatch.records import Checkout, Request

#: Where a session carries the line at which it was made.
_MADE_AT = "_dbwatch_made_at"
#: Where it carries a weak reference to the request for which it last began a transaction.
_SERVED = "_dbwatch_served"


def wrap_init(original: Callable[..., None]) -> Callable[..., None]:
    """``Session.__init__`` with the line noted that made the session."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if SWITCH.on:
            made(self)

    return __init__


@guarded("sessions.made")
def made(session: Any) -> None:
    """A session was made. The line is where the app asked for it, not where a class of the app's calls super()."""
    frame: FrameType | None = sys._getframe(3)
    parts = APP_CODE.parts
    while frame is not None and (not parts[frame.f_code.co_filename] or _initialises_a_session(frame)):
        frame = frame.f_back
    session.__dict__[_MADE_AT] = call_site(frame, 1)


def _initialises_a_session(frame: FrameType) -> bool:
    code = frame.f_code
    if code.co_name != "__init__" or not code.co_argcount:
        return False
    made = frame.f_locals.get(code.co_varnames[0])
    return isinstance(made, Session) or hasattr(type(made), "sync_session_class")  # AsyncSession needs greenlet


@guarded("sessions.after_begin")
def on_after_begin(session: Any, transaction: Any, connection: Any) -> None:
    """A session began a transaction on a connection: from now on it is an ORM connection, unless the session has joined
    a transaction that somebody else began, within a savepoint or not. That one's rollback is its owner's wish.
    """
    try:
        joined = connection.in_nested_transaction() or not _owns(transaction, connection)
        checkout = None if joined else connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001  an invalidated connection has no info
        return
    if checkout is not None:
        checkout.session = id(session)
        checkout.made_at = session.__dict__.get(_MADE_AT, ())
        request = REQUEST.get()
        if request is not None and request.ended_at is None:
            _serves(session, request, checkout)


def _owns(transaction: Any, connection: Any) -> bool:
    """True if the session's transaction commits on the connection, and is not only a guest there
    (``join_transaction_mode="rollback_only"``). By a private name (2.0, 2.1); without it, every transaction counts.
    """
    joined = getattr(transaction, "_connections", {}).get(connection)
    return joined is None or bool(joined[2])


def _serves(session: Any, request: Request, checkout: Checkout) -> None:
    """A request that is still at work on its response has not done with its session. One that has sent it may have:
    its end is a matter of moments, and a test's client may be ahead of it.
    """
    before = session.__dict__.get(_SERVED)
    other = None if before is None else before()
    if other is request:
        return
    session.__dict__[_SERVED] = ref(request)
    if other is not None and other.ended_at is None and other.response_started_at is None and not checkout.pool.shared:
        judgement.shared(
            request,
            checkout,
            call_site(sys._getframe(2)),
            "A session began a transaction for this request while another one that it had served was still at work.",
        )


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
        if checkout.changes is not None:
            checkout.changes.rolled_back = 0
    return bool(found)


def install() -> None:
    """Hook every session."""
    Session.__init__ = wrap_init(Session.__init__)  # type: ignore[method-assign]
    event.listen(Session, "after_begin", on_after_begin)
    event.listen(Session, "after_rollback", on_after_rollback)
