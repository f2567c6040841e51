"""Connections as they are opened, thrown away and closed, and for which reason.

Listeners here can be called by the garbage collector: they write attributes and post facts, nothing else.
"""

import sys
import time
from time import perf_counter
from types import CodeType
from typing import Any

from sqlalchemy import event, exc, pool
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from dbwatch.context import ATTEMPT, REQUEST
from dbwatch.guard import guarded
from dbwatch.ledger import LEDGER
from dbwatch.pools import POOLS
from dbwatch.records import WatchedPool

#: Keys in a connection record's ``info``: the pool, why the connection is about to be closed, and that its close has
#: been counted. SQLAlchemy empties ``info`` before the record gets another connection.
POOL_KEY = "dbwatch.pool"
REASON_KEY = "dbwatch.close_reason"
CLOSED_KEY = "dbwatch.closed"


@guarded("pool.do_connect")
def on_do_connect(_dialect: Any, _record: Any, _arguments: Any, _keywords: Any) -> None:
    """A connection is about to be opened. Must return None: anything else would be taken as the connection."""
    checkout = ATTEMPT.get()
    if checkout is not None:
        checkout.connect_started = perf_counter()


@guarded("pool.connect")
def on_connect(connection: Any, record: Any) -> None:
    """A connection was opened."""
    checkout = ATTEMPT.get()
    if checkout is None:
        return
    if checkout.connect_started is not None:
        seconds = perf_counter() - checkout.connect_started
    else:
        # With creator= there is no do_connect; the record's own wall-clock time of the attempt is what is left.
        seconds = max(0.0, time.time() - record.starttime)
    checkout.connect = (checkout.connect or 0.0) + seconds
    checkout.connect_started = None
    checkout.connected += 1
    checkout.connection_id = id(connection)
    record.info[POOL_KEY] = checkout.pool
    LEDGER.post(LEDGER.connection_opened, checkout)


@guarded("pool.invalidate")
def on_invalidate(_connection: Any, record: Any, error: BaseException | None) -> None:
    """A connection is thrown away; the ``close`` that follows learns why. A failed pre-ping, also one whose
    ``do_ping`` returned False, arrives as InvalidatePoolError.
    """
    failed_ping = isinstance(error, exc.InvalidatePoolError)
    record.info[REASON_KEY] = "pre_ping" if failed_ping else "invalidated"
    checkout = ATTEMPT.get()
    if failed_ping and checkout is not None:
        LEDGER.post(LEDGER.pre_ping_failed, checkout)


@guarded("pool.close")
def on_close(_connection: Any, record: Any) -> None:
    """A connection is closed: by whom? A listener of the app that raises after this one puts the close off, and it is
    announced a second time.
    """
    if CLOSED_KEY in record.info:
        return
    record.info[CLOSED_KEY] = True
    watched = pool_of(record)
    if watched is None:
        return
    checkout = ATTEMPT.get()
    reason = record.info.pop(REASON_KEY, None) or _closer() or "other"
    if reason == "replaced":
        reason = _why_replaced(watched, record)
    if checkout is not None and checkout.connected:
        checkout.connected -= 1
    if reason == "dispose" and watched.creator:
        request = REQUEST.get()
        if request is None or request.ended_at is not None or request.number != watched.creator:
            watched.creator = 0  # kept beyond the request that made the engine, until somebody else disposed of it
    LEDGER.post(LEDGER.connection_closed, (watched, reason))


def pool_of(record: Any) -> WatchedPool | None:
    """The pool of a record: as noted when its connection was opened, else, for one opened before dbwatch was installed
    or emptied by another thread just now, by a name that is not public.
    """
    watched: WatchedPool | None = record.info.get(POOL_KEY)
    if watched is None:
        owner = getattr(record, "_ConnectionRecord__pool", None)
        watched = None if owner is None else POOLS.of(owner)
    return watched


def _why_replaced(watched: WatchedPool, record: Any) -> str:
    """Replaced at checkout: for its age, or because its whole generation was invalidated. The same comparison, in the
    same order, as ``_ConnectionRecord.get_connection`` (2.0 and 2.1).
    """
    pool = watched.pool()
    recycle = getattr(pool, "_recycle", -1)
    return "recycle" if recycle > -1 and time.time() - record.starttime > recycle else "invalidated"


def _codes() -> dict[CodeType, str]:
    """Functions that close connections, by code object. Partly private names: one that is missing in some version of
    SQLAlchemy makes its reason ``other``.
    """
    reasons: dict[CodeType, str] = {}
    for owner, name, reason in (
        (pool.QueuePool, "_do_return_conn", "overflow"),
        (pool.QueuePool, "dispose", "dispose"),
        (pool.StaticPool, "dispose", "dispose"),
        (pool.SingletonThreadPool, "dispose", "dispose"),
        (pool.AssertionPool, "dispose", "dispose"),
        (pool.NullPool, "_do_return_conn", "other"),
        (pool.SingletonThreadPool, "_cleanup", "other"),
        (getattr(pool.base, "_ConnectionRecord", None), "get_connection", "replaced"),
    ):
        code = getattr(getattr(owner, name, None), "__code__", None)
        if code is not None:
            reasons[code] = reason
    return reasons


_CLOSERS = _codes()


def _closer() -> str | None:
    """The reason, from the function that asked for the close, a few frames above this listener."""
    frame = sys._getframe(2)
    for _ in range(16):
        reason = _CLOSERS.get(frame.f_code)
        if reason is not None:
            return reason
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def install() -> None:
    """Listen on every pool."""
    event.listen(Engine, "do_connect", on_do_connect)
    for name, listener in (("connect", on_connect), ("invalidate", on_invalidate), ("close", on_close)):
        event.listen(Pool, name, listener)
