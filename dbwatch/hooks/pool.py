"""The pool's side of a checkout: ``Pool.connect`` wrapped, and the pool events.

``Pool.connect`` is the one place that sees every attempt, the failed ones included; SQLAlchemy has no event before a
checkout and none for a timeout. The listeners ``reset``, ``checkin`` and ``detach`` can be
called by the garbage collector at any moment, in any thread: they write attributes and post facts, nothing else.
A raising ``checkin`` listener would lose the app's pool slot for good, hence the guard around each.
"""

import functools
import math
import sys
from collections.abc import Callable
from contextvars import Token
from threading import get_ident
from time import perf_counter
from typing import Any
from weakref import ref

from sqlalchemy import event, exc, pool
from sqlalchemy.pool import Pool

from dbwatch import judgement, timeout_report
from dbwatch.callsites import LIMIT, awaiting_site, call_site
from dbwatch.context import ATTEMPT, REQUEST, owner_now, waits_for
from dbwatch.guard import guarded
from dbwatch.hooks.connections import pool_of
from dbwatch.hooks.switch import SWITCH
from dbwatch.hooks.unwinding import unwinding
from dbwatch.leaks import judge_late
from dbwatch.ledger import BATCH, LEDGER
from dbwatch.pools import POOL_ATTRIBUTE, POOLS
from dbwatch.records import Changes, Checkout, Request, WatchedPool
from dbwatch.settings import THRESHOLDS

#: Key in a connection record's ``info``: the checkout that is out.
CHECKOUT_KEY = "dbwatch.checkout"

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
    if LEDGER.not_started or len(LEDGER.facts) >= BATCH:
        LEDGER.fold_if_due()
    watched = pool.__dict__.get(POOL_ATTRIBUTE) or POOLS.of(pool)
    request = REQUEST.get()
    if request is None:
        checkout = Checkout(watched, None, perf_counter())
    elif request.ended_at is None:
        checkout = request.attempt = Checkout(watched, request, perf_counter())
        request.tried = True
    else:
        checkout = Checkout(watched, None, perf_counter())
        checkout.spawner = request  # a task that outlived its request asks for itself
    return checkout, ATTEMPT.set(checkout)


@guarded("pool.served")
def served(attempt: Attempt) -> None:
    """The attempt was served: the connection is with the app now."""
    checkout, token = attempt
    ATTEMPT.reset(token)
    checkout.outcome = "ok"
    pool, request = checkout.pool, checkout.request
    if checkout.taken_at is None:
        # SingletonThreadPool handed out the proxy this thread already has: a checkout, but no new hold.
        checkout.taken_at = checkout.returned_at = perf_counter()
    else:
        # Here and not in the event: fewer frames lie between this and the app.
        endpoint = None if request is None or request.scope is None else request.scope.get("endpoint")
        find = awaiting_site if pool.is_async else call_site
        checkout.site = find(sys._getframe(2), LIMIT, getattr(endpoint, "__code__", None))
    seconds = checkout.taken_at - checkout.asked_at
    if seconds >= THRESHOLDS.slow_checkout_seconds or seconds >= pool.half_timeout:
        checkout.slow = True
    if request is not None:
        if not checkout.site:
            checkout.site = judgement.at_endpoint(request)
        if not pool.is_async:
            _blocked_while_waiting(checkout, request)
        if len(request.open) > 1 and not pool.shared:
            _nested(checkout, request)
        if checkout.slow:
            request.notable = True
        if request.ended_at is not None:
            judge_late(checkout)
    LEDGER.facts.append((judgement.attempt_ended, checkout))


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
    if checkout.connected > 0:
        # Opened, and stranded by another connect listener's error: SQLAlchemy closes it without an event (2.1.9).
        LEDGER.post(LEDGER.connection_closed, (checkout.pool, "other"))
    checkout.taken_at = checkout.returned_at = now
    checkout.overflow = False
    _forget(checkout)
    if checkout.outcome == "timeout":
        checkout.site = call_site(sys._getframe(1))
    if checkout.request is not None and not checkout.pool.is_async:
        _blocked_while_waiting(checkout, checkout.request)
    LEDGER.post(LEDGER.attempt_ended, checkout)
    if checkout.outcome == "timeout":
        LEDGER.post(judgement.timed_out, timeout_report.take(checkout))
        LEDGER.try_fold()


def _could_not_connect(checkout: Checkout, error: BaseException, *, taken: bool) -> bool:
    """True if opening a connection failed. With ``creator=`` there is no do_connect to tell; then a failure that came
    before any connection was had is one, except AssertionPool's refusal of a second checkout.
    """
    if checkout.connect_started is not None:
        return True
    return not taken and checkout.connected == 0 and not isinstance(error, AssertionError)


def _blocked_while_waiting(checkout: Checkout, request: Request) -> None:
    """A synchronous engine's checkout on the loop's own thread held up everybody, the holders it waited for as well."""
    if get_ident() != request.thread:
        return
    checkout.on_loop = True
    if checkout.wait is not None and request.blocked_at is None:
        request.blocked_at = (checkout.pool.name, checkout.site)
        request.notable = True


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
    checkout.connected = 0  # from here on the pool announces the close of what it opened
    checkout.proxy = ref(proxy, _ignore)
    if record.info.setdefault(CHECKOUT_KEY, checkout) is not checkout:
        _replace(record.info, checkout)
    checkout.taken_at = now
    checkout.returned_at = None
    if pool.shared:
        sweep(pool)
    pool.open[checkout] = None
    if request is not None:
        checkout.owner = owner_now()
        if checkout not in request.open:
            request.open.append(checkout)
    used = len(pool.open)
    checkout.overflow = used > pool.size
    if used > pool.peak or now >= pool.peak_until:
        pool.note_used(used, now)


def _replace(info: dict[Any, Any], checkout: Checkout) -> None:
    """The record speaks for the last hold. Except where one connection serves many, the one before ends here: its end
    has been missed, or the pool has given its connection away twice (SQLAlchemy 2.1.9, see ``statements``).
    """
    before, info[CHECKOUT_KEY] = info[CHECKOUT_KEY], checkout
    if not checkout.pool.shared:
        finish(before)


def _nested(inner: Checkout, request: Request) -> None:
    """Does the request hold a connection of the same pool already, and will it go on holding it until this one is
    back? A task that the request has merely spawned waits for nobody: with one of its own, nobody can be stuck.
    """
    if inner.pool.size == math.inf:
        return
    for outer in list(request.open):
        if outer.pool is inner.pool and outer is not inner and outer.is_open() and waits_for(outer.owner, inner.owner):
            judgement.second_checkout(outer, inner, request)
            return


@guarded("pool.checkin")
def on_checkin(connection: Any, record: Any) -> None:
    """A connection was given back, by hand or by the garbage collector. Comes without a checkout when the reconnect
    after a failed pre-ping was refused, and after the connection was invalidated.
    """
    checkout = record.info.pop(CHECKOUT_KEY, None)
    if checkout is None:
        _failing(connection)
    elif checkout.outcome is None:
        _forget(checkout)  # the attempt is failing; gave_up() will say so
        _failing(connection)
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
    if record is None:
        return
    checkout = record.info.get(CHECKOUT_KEY)
    if checkout is None or checkout.pool.shared:
        return
    if not state.asyncio_safe:
        finish(checkout)
    elif checkout.changes is not None:
        _judge_rollback(checkout, checkout.changes, state.transaction_was_reset)


def _failing(connection: Any) -> None:
    """A failing attempt gives its record back. A connection that is still in it, because a listener of the app raised
    before it was closed, is not stranded: its close is to come.
    """
    attempt = ATTEMPT.get()
    if attempt is not None and connection is not None and attempt.connection_id == id(connection):
        attempt.connected = 0


def _judge_rollback(checkout: Checkout, changes: Changes, core_was_reset: bool) -> None:
    """Was the ROLLBACK before this return anybody's wish? The ORM's close rolls back by itself and its rollback() says
    so (Session.after_rollback takes the count back); Core's close leaves ``transaction_was_reset`` set. Writes that no
    ROLLBACK has undone yet are undone by the pool right after this. A close that an exception has brought about is no
    forgotten commit, whatever the client is told.
    """
    implicit = changes.writes or (changes.rolled_back and (checkout.session or core_was_reset))
    if implicit and not unwinding():
        changes.lost = changes.writes or changes.rolled_back
        if checkout.request is not None:
            checkout.request.notable = True
    changes.writes = changes.rolled_back = 0


@guarded("pool.detach")
def on_detach(connection: Any, record: Any) -> None:
    """A connection left the pool for good. The record is back in the pool already and may be somebody else's."""
    checkout = record.info.get(CHECKOUT_KEY)
    if checkout is not None and checkout.connection_id == id(connection):
        record.info.pop(CHECKOUT_KEY, None)  # somebody else may have emptied it by now
        finish(checkout)
        LEDGER.post(LEDGER.connection_closed, (checkout.pool, "gc" if checkout.reclaimed else "detached"))
        return
    pool = pool_of(record)
    if pool is not None:
        LEDGER.post(LEDGER.connection_closed, (pool, "detached"))


def finish(checkout: Checkout) -> None:
    """End a hold, once, whichever sign of its end comes first."""
    pool = checkout.pool
    used = len(pool.open)
    # Taking it out of the dict is one atomic step: of two threads that see the end, one goes on.
    if pool.open.pop(checkout, checkout) is checkout:
        return
    now = perf_counter()
    if now >= pool.peak_until:
        pool.note_used(used, now)
    checkout.returned_at = now
    if checkout.proxy is not None and checkout.proxy() is None:
        checkout.reclaimed = True
    request = checkout.request
    if request is not None:
        if checkout in request.open:
            request.open.remove(checkout)
        request.gave_back_at = now
        if checkout.taken_at is not None and now - checkout.taken_at >= THRESHOLDS.idle_hold_seconds:
            request.notable = True
    LEDGER.facts.append((judgement.hold_ended, checkout))


def sweep(pool: WatchedPool, returning: Checkout | None = None) -> None:
    """End the holds whose proxy says that they are over. For pools whose checkouts share one record this is the only
    way; for all others it repairs what a race between ``detach`` and a new checkout left behind.
    """
    for checkout in list(pool.open):
        # An attempt that is not over yet may be reconnecting, with its proxy empty meanwhile.
        if checkout is returning or (checkout.outcome is not None and not checkout.is_open()):
            finish(checkout)


@guarded("pool.gone")
def on_gone(pool: WatchedPool) -> None:
    """A pool object was garbage collected, and with it the last proxies of its connections. Holds whose end no event
    has told, on a shared connection or because another checkin listener raised first, end here.
    """
    sweep(pool)


def _forget(checkout: Checkout) -> None:
    checkout.pool.open.pop(checkout, None)
    if checkout.request is not None and checkout in checkout.request.open:
        checkout.request.open.remove(checkout)


def install() -> None:
    """Hook the classes. Once: listeners that come and go under traffic raise in the app."""
    for kind in (pool.Pool, pool.SingletonThreadPool):
        kind.connect = wrap_connect(kind.connect)  # type: ignore[method-assign, assignment]
    for name, listener in (
        ("checkout", on_checkout),
        ("reset", on_reset),
        ("checkin", on_checkin),
        ("detach", on_detach),
    ):
        event.listen(Pool, name, listener)
    POOLS.when_gone(on_gone)
