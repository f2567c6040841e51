"""The pool's side of a checkout: ``Pool.connect`` wrapped, and the pool events.

``Pool.connect`` is the one place that sees every attempt, the failed ones included; SQLAlchemy has no event before a
checkout and none for a timeout. The listeners ``reset``, ``checkin``, ``detach``, ``close`` and ``invalidate`` can be
called by the garbage collector at any moment, in any thread: they write attributes and post facts, nothing else.
A raising ``checkin`` listener would lose the app's pool slot for good, hence the guard around each.
"""

import functools
import sys
import time
from collections.abc import Callable
from contextvars import Token
from threading import get_ident
from time import perf_counter
from types import CodeType
from typing import Any
from weakref import ref

from sqlalchemy import event, exc, pool
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from dbwatch.context import ATTEMPT, REQUEST, owner_now
from dbwatch.guard import guarded
from dbwatch.hooks.switch import SWITCH
from dbwatch.ledger import LEDGER
from dbwatch.pools import POOL_ATTRIBUTE, POOLS
from dbwatch.records import Checkout, WatchedPool

#: Keys in a connection record's ``info``: the checkout that is out, the pool, and why it is about to be closed.
CHECKOUT_KEY = "dbwatch.checkout"
POOL_KEY = "dbwatch.pool"
REASON_KEY = "dbwatch.close_reason"

Attempt = tuple[Checkout, "Token[Checkout | None]"]


def _ignore(_reference: object) -> None:
    """A weak reference's callback. With one, the reference dies before the proxy's finalizer runs; without one, from
    Python 3.15 on, it would still be alive then (cpython gh-135552, and the same remedy in SQLAlchemy).
    """


# Pool.connect


def wrap_connect(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``Pool.connect`` with the attempt noted around it."""

    @functools.wraps(original)
    def connect(self: Any) -> Any:
        attempt = begin(self) if SWITCH.on else None
        if attempt is None:
            return original(self)
        try:
            proxy = original(self)
        except BaseException as error:
            gave_up(attempt, error)
            raise
        served(attempt)
        return proxy

    return connect


@guarded("pool.begin")
def begin(pool: Any) -> Attempt:
    """An attempt begins: note who asks, and when."""
    LEDGER.fold_if_due()
    watched = pool.__dict__.get(POOL_ATTRIBUTE) or POOLS.of(pool)
    request = REQUEST.get()
    if request is not None:
        if request.ended_at is None:
            request.tried = True
        else:
            request = None  # a task that outlived its request asks for itself
    checkout = Checkout(watched, request, perf_counter())
    return checkout, ATTEMPT.set(checkout)


@guarded("pool.served")
def served(attempt: Attempt) -> None:
    """The attempt was served: the connection is with the app now."""
    checkout, token = attempt
    ATTEMPT.reset(token)
    checkout.outcome = "ok"
    if checkout.taken_at is None:
        # SingletonThreadPool handed out the proxy this thread already has: a checkout, but no new hold.
        checkout.taken_at = checkout.returned_at = perf_counter()
    request = checkout.request
    if request is not None and not checkout.pool.is_async and get_ident() == request.thread:
        checkout.on_loop = True
    LEDGER.post(LEDGER.attempt_ended, checkout)


@guarded("pool.gave_up")
def gave_up(attempt: Attempt, error: BaseException) -> None:
    """The attempt failed: say how, and take back what had been noted of a hold."""
    checkout, token = attempt
    ATTEMPT.reset(token)
    now = perf_counter()
    if isinstance(error, exc.TimeoutError):
        checkout.outcome = "timeout"
    elif isinstance(error, Exception):
        checkout.outcome = "error"
    else:
        checkout.outcome = "cancelled"
    taken = checkout.taken_at is not None
    if checkout.connect_started is not None:
        checkout.connect = now - checkout.connect_started
    if checkout.outcome == "error" and _could_not_connect(checkout, error, taken=taken):
        LEDGER.post(LEDGER.connect_failed, checkout)
    if checkout.connected > 0 and not taken:
        # Opened, and stranded by another listener's error: SQLAlchemy closes it without an event (2.1.9).
        LEDGER.post(LEDGER.connection_closed, (checkout.pool, "other"))
    checkout.taken_at = checkout.returned_at = now
    checkout.overflow = False
    _forget(checkout)
    LEDGER.post(LEDGER.attempt_ended, checkout)


def _could_not_connect(checkout: Checkout, error: BaseException, *, taken: bool) -> bool:
    """True if opening a connection failed. With ``creator=`` there is no do_connect to tell; then a failure that came
    before any connection was had is one, except AssertionPool's refusal of a second checkout.
    """
    if checkout.connect_started is not None:
        return True
    return not taken and checkout.connected == 0 and not isinstance(error, AssertionError)


# The hold


@guarded("pool.checkout")
def on_checkout(connection: Any, record: Any, proxy: Any) -> None:
    """A connection was taken. Fires twice in one attempt when a listener of the app asks for another connection."""
    checkout = ATTEMPT.get()
    if checkout is None:
        return
    now = perf_counter()
    pool, request = checkout.pool, checkout.request
    checkout.connection_id = id(connection)
    checkout.proxy = ref(proxy, _ignore)
    record.info[CHECKOUT_KEY] = checkout
    checkout.taken_at = now
    checkout.returned_at = None
    if pool.shared:
        sweep(pool)
    pool.open[checkout] = None
    if request is not None:
        request.open[checkout] = None
        checkout.owner = owner_now()
    used = len(pool.open)
    checkout.overflow = used > pool.size
    pool.note_used(used, now)


@guarded("pool.checkin")
def on_checkin(_connection: Any, record: Any) -> None:
    """A connection was given back, by hand or by the garbage collector. Comes without a checkout when the reconnect
    after a failed pre-ping was refused, and after the connection was invalidated.
    """
    checkout = record.info.pop(CHECKOUT_KEY, None)
    if checkout is None:
        return
    if checkout.outcome is None:
        _forget(checkout)  # the attempt is failing; gave_up() will say so
    elif checkout.pool.shared:
        # With several out on one record, the record holds the last one taken, which need not be the one returning.
        sweep(checkout.pool, returning=checkout if len(checkout.pool.open) == 1 else None)
    else:
        finish(checkout)


@guarded("pool.reset")
def on_reset(_connection: Any, record: Any, state: Any) -> None:
    """Before a connection goes back. Of an asynchronous engine's connection that the garbage collector found, this is
    the last certain sign: its ``checkin`` never comes, and by ``detach`` another thread may have the record.
    """
    if record is None or state.asyncio_safe:
        return
    checkout = record.info.get(CHECKOUT_KEY)
    if checkout is not None and not checkout.pool.shared:
        finish(checkout)


@guarded("pool.detach")
def on_detach(connection: Any, record: Any) -> None:
    """A connection left the pool for good. The record is back in the pool already and may be somebody else's."""
    checkout = record.info.get(CHECKOUT_KEY)
    pool = record.info.get(POOL_KEY)
    if checkout is not None and checkout.connection_id == id(connection):
        del record.info[CHECKOUT_KEY]
        finish(checkout)
        LEDGER.post(LEDGER.connection_closed, (checkout.pool, "gc" if checkout.reclaimed else "detached"))
    elif pool is not None:
        LEDGER.post(LEDGER.connection_closed, (pool, "detached"))


def finish(checkout: Checkout) -> None:
    """End a hold, once, whichever sign of its end comes first."""
    if checkout.returned_at is not None:
        return
    now = perf_counter()
    pool = checkout.pool
    pool.note_used(len(pool.open), now)
    checkout.returned_at = now
    checkout.reclaimed = checkout.proxy is not None and checkout.proxy() is None
    _forget(checkout)
    LEDGER.post(LEDGER.hold_ended, checkout)


def sweep(pool: WatchedPool, returning: Checkout | None = None) -> None:
    """End the holds whose proxy says that they are over. For pools whose checkouts share one record this is the only
    way; for all others it repairs what a race between ``detach`` and a new checkout left behind.
    """
    for checkout in list(pool.open):
        if checkout is returning or not checkout.is_open():
            finish(checkout)


def _forget(checkout: Checkout) -> None:
    checkout.pool.open.pop(checkout, None)
    if checkout.request is not None:
        checkout.request.open.pop(checkout, None)


# Connections


@guarded("pool.do_connect")
def on_do_connect(_dialect: Any, _record: Any, _arguments: Any, _keywords: Any) -> None:
    """A connection is about to be opened. Must return None: anything else would be taken as the connection."""
    checkout = ATTEMPT.get()
    if checkout is not None:
        checkout.connect_started = perf_counter()


@guarded("pool.connect")
def on_connect(_connection: Any, record: Any) -> None:
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
        checkout.ping_failures += 1
        LEDGER.post(LEDGER.pre_ping_failed, checkout)


@guarded("pool.close")
def on_close(_connection: Any, record: Any) -> None:
    """A connection is closed: by whom?"""
    watched = record.info.get(POOL_KEY)
    if watched is None:
        # Opened before dbwatch was installed. The record's pool has no public name.
        owner = getattr(record, "_ConnectionRecord__pool", None)
        if owner is None:
            return
        watched = POOLS.of(owner)
    checkout = ATTEMPT.get()
    reason = record.info.pop(REASON_KEY, None) or _closer() or "other"
    if reason == "replaced":
        reason = _why_replaced(watched, record)
    if checkout is not None and checkout.connected:
        checkout.connected -= 1
    LEDGER.post(LEDGER.connection_closed, (watched, reason))


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
    """Hook the classes. Once: listeners that come and go under traffic raise in the app."""
    for kind in (pool.Pool, pool.SingletonThreadPool):
        kind.connect = wrap_connect(kind.connect)  # type: ignore[method-assign, assignment]
    event.listen(Engine, "do_connect", on_do_connect)
    for name, listener in (
        ("connect", on_connect),
        ("checkout", on_checkout),
        ("reset", on_reset),
        ("checkin", on_checkin),
        ("detach", on_detach),
        ("invalidate", on_invalidate),
        ("close", on_close),
    ):
        event.listen(Pool, name, listener)
