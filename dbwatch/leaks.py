"""The verdict on connections that are still out when their request has ended.

A leak is counted once, when both hold: the middleware's ``await app(...)`` has returned, and the owner (the task, or
the thread's context token) has ended. A live owner defers the verdict to its own end: a done callback of the task, or
the callback of a weak reference when the context or the task is freed. No timer is involved. A task that is just
giving back the connection of a cancelled request takes the owner's place, and so do asynchronous generators that are
being closed: one left by ``break`` or ``return`` is closed by the event loop in a task of its own, and what it holds
comes back a moment after the request (PEP 525).
"""

import asyncio
import time
from asyncio import AbstractEventLoop, Task
from asyncio.events import _get_running_loop
from typing import Any
from weakref import ref

from dbwatch import judgement
from dbwatch.context import owner_is_running
from dbwatch.guard import guarded
from dbwatch.holders import task_using
from dbwatch.ledger import LEDGER
from dbwatch.records import Checkout, Request
from dbwatch.turns import closes_generator

#: Checkouts whose verdict waits for their owner's end, each with the weak reference that will tell of it.
_deferred: dict[Checkout, ref[Any]] = {}

#: Turns of the event loop after which a generator that was left when the request ended has a task that closes it. The
#: loop's hook schedules the making of that task, which takes a turn; an exception's traceback keeps a generator alive
#: until the server has caught the exception, which is a turn more at most (3.11 to 3.13, uvloop 0.23).
_TURNS = 3

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
        loop = _get_running_loop() if checkout.pool.is_async else None
        if user is not None:
            _defer(checkout, ref(user))
        elif loop is not None:
            _defer(checkout, ref(_Closing(checkout, loop)))
        else:
            _accuse(checkout)


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
    if checkout.request is not None:
        checkout.request.notable = True
    LEDGER.post(judgement.leaked, checkout)


def _defer(checkout: Checkout, until: "ref[Any] | None") -> None:
    owner = None if until is None else until()
    if owner is None:
        _accuse(checkout)
        return
    _prune()

    def ended(_owner: object) -> None:
        # May run inside a garbage collection: the fold passes the verdict.
        LEDGER.post(_verdict, checkout)

    def done(owner: object) -> None:
        ended(owner)
        LEDGER.try_fold()

    _deferred[checkout] = ref(owner, ended)
    # A task of another loop may not be touched from here; its weak reference has to do.
    if isinstance(owner, Task) and owner.get_loop() is _get_running_loop():
        owner.add_done_callback(done)


class _Closing:
    """Lives until every asynchronous generator is closed that was being closed when a request had just ended.

    Nothing but the event loop and those tasks refers to it: with a loop that is closed it goes, too.
    """

    def __init__(self, checkout: Checkout, loop: AbstractEventLoop) -> None:
        self.checkout = checkout
        self.tasks: set[Task[Any]] = set()
        self.turns = _TURNS
        loop.call_soon(self.turn, loop)

    @guarded("leaks.turn")
    def turn(self, loop: AbstractEventLoop) -> None:
        if self.turns:
            self.turns -= 1
            loop.call_soon(self.turn, loop)
            return
        if self.checkout.is_open():
            self.tasks = {task for task in asyncio.all_tasks(loop) if closes_generator(task)}
        for task in self.tasks:
            task.add_done_callback(self.closed)
        self.judge()

    @guarded("leaks.closed")
    def closed(self, task: "Task[Any]") -> None:
        self.tasks.discard(task)
        self.judge()

    def judge(self) -> None:
        if not self.tasks:
            LEDGER.post(_verdict, self.checkout)
            LEDGER.try_fold()


def _verdict(checkout: Checkout) -> None:
    _deferred.pop(checkout, None)
    if checkout.is_open():
        _accuse(checkout)


def _prune() -> None:
    for checkout in list(_deferred):
        if checkout.returned_at is not None:
            _deferred.pop(checkout, None)
