"""The verdict on connections that are still out when their request has ended.

A leak is counted once, when both hold: the middleware's ``await app(...)`` has returned, and the owner (the task, or
the thread's context token) has ended. A live owner defers the verdict to its own end: a done callback of the task, or
the callback of a weak reference when the context or the task is freed. No timer is involved. A task that is just
giving back the connection of a cancelled request takes the owner's place.
"""

import time
from asyncio import Task
from asyncio.events import _get_running_loop
from typing import Any
from weakref import ref

from dbwatch import judgement
from dbwatch.context import owner_is_running
from dbwatch.holders import task_using
from dbwatch.ledger import LEDGER
from dbwatch.records import Checkout, Request

#: Checkouts whose verdict waits for their owner's end.
_deferred: dict[Checkout, None] = {}

#: How often settle() looks, in seconds.
_SETTLE_STEP = 0.005


def judge(request: Request) -> None:
    """Judge every connection the request still has out. Called in the request's task, at its very end."""
    for checkout in list(request.open):
        # Where several checkouts share one connection nobody can say whose it is.
        if checkout.pool.shared or not checkout.is_open():
            continue
        if owner_is_running(checkout.owner):
            _defer(checkout, checkout.owner)
            continue
        user = task_using(checkout) if checkout.running or request.failed else None
        if user is None:
            _accuse(checkout)
        else:
            _defer(checkout, ref(user))


def judge_late(checkout: Checkout) -> None:
    """Judge a connection that was asked for during a request and handed out when that had just ended.

    A spawned task was still waiting for it, so :func:`judge` did not see it; the end of that task decides.
    """
    if not checkout.pool.shared and checkout.is_open():
        _defer(checkout, checkout.owner)


def pending() -> int:
    """Verdicts that wait for their owner's end."""
    LEDGER.fold()
    _prune()
    return len(_deferred)


def settle(timeout: float = 1.0) -> bool:
    """Wait until no verdict is pending any more, at most ``timeout`` seconds; True if none is.

    For tests and scripts. It blocks the calling thread: in a coroutine, run it with ``asyncio.to_thread``, or the
    owners it waits for cannot end.
    """
    deadline = time.monotonic() + timeout
    while True:
        if not pending():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_SETTLE_STEP)


def start_anew() -> None:
    """In a forked child: the parent's pending verdicts are the parent's."""
    _deferred.clear()


def _accuse(checkout: Checkout) -> None:
    if not checkout.leaked:
        checkout.leaked = True
        if checkout.request is not None:
            checkout.request.notable = True
        LEDGER.post(judgement.leaked, checkout)


def _defer(checkout: Checkout, until: "ref[Any] | None") -> None:
    owner = None if until is None else until()
    if owner is None:
        _accuse(checkout)
        return
    _prune()
    _deferred[checkout] = None

    def ended(_owner: object) -> None:
        # May run inside a garbage collection: the fold passes the verdict.
        LEDGER.post(_verdict, checkout)

    def done(owner: object) -> None:
        ended(owner)
        LEDGER.try_fold()

    checkout.owner_watch = ref(owner, ended)
    # A task of another loop may not be touched from here; its weak reference has to do.
    if isinstance(owner, Task) and owner.get_loop() is _get_running_loop():
        owner.add_done_callback(done)


def _verdict(checkout: Checkout) -> None:
    _deferred.pop(checkout, None)
    if checkout.is_open():
        _accuse(checkout)


def _prune() -> None:
    for checkout in list(_deferred):
        if checkout.returned_at is not None:
            _deferred.pop(checkout, None)
