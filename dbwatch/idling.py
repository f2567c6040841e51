"""A look, some times a second, at the holds in which no SQL runs: where is the holder, and could it have gone on?

Between two statements a hold is idle, but that alone accuses nobody: on an overloaded machine a task that could go on
waits for its turn. A thread tells the two apart while it happens; afterwards nobody can. It changes nothing about a
hold but its :class:`~dbwatch.records.Idling`.
"""

import asyncio
import sys
import threading
import time
from asyncio import Task
from types import CodeType, FrameType
from typing import Any

from dbwatch.callsites import APP_CODE, LIMIT, call_site
from dbwatch.context import ThreadToken
from dbwatch.guard import guarded
from dbwatch.pools import POOLS
from dbwatch.records import Checkout, Idling, Site
from dbwatch.settings import THRESHOLDS

#: Seconds between two looks: a fifth of the threshold, so that a hold at the threshold is seen several times.
LONGEST_PAUSE = 0.1
SHORTEST_PAUSE = 0.01
#: A look that comes so many times later than it should says that threads do not get their turn.
LATE = 2.0


class Watch:
    """The thread that looks."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    @guarded("idling.start")
    def start(self) -> None:
        """Start looking. Called at the first checkout of a process, and in a forked child at its own."""
        self._thread = threading.Thread(target=self._run, name="dbwatch-idling", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last = time.perf_counter()
        while self._thread is threading.current_thread():
            pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, THRESHOLDS.idle_hold_seconds / 5))
            time.sleep(pause)
            now = time.perf_counter()
            look(now - last, (now - last) > LATE * pause)
            last = now


WATCH = Watch()


@guarded("idling.look")
def look(passed: float, late: bool) -> None:
    """Look at every open hold, ``passed`` seconds after the last look."""
    for pool in POOLS.watched():
        if pool.open and not pool.shared:
            for checkout in list(pool.open):
                if checkout.request is not None and checkout.statements:
                    _look_at(checkout, passed, late)


def _look_at(checkout: Checkout, passed: float, late: bool) -> None:
    idling = checkout.idling
    if checkout.running:
        return
    if idling is None:
        idling = checkout.idling = Idling()
    if idling.executed != checkout.executing or idling.statements != checkout.statements:
        # Something ran since the last look: what is idle begins anew.
        idling.executed, idling.statements, idling.seen = checkout.executing, checkout.statements, 0.0
        return
    if late or _could_go_on(checkout):
        idling.excused += passed
        return
    idling.seen += passed
    if not idling.site and idling.seen >= THRESHOLDS.idle_hold_seconds / 2:
        idling.site = whereabouts(checkout)


def _could_go_on(checkout: Checkout) -> bool:
    """True if the holder is a task that waits for nothing but its turn on the event loop."""
    owner = checkout.owner() if checkout.owner is not None else None
    if not isinstance(owner, Task) or owner.done():
        return False
    try:
        waiter = owner._fut_waiter  # type: ignore[attr-defined]  # noqa: SLF001  private, but of all tasks (3.11 to 3.14)
    except AttributeError:
        return False
    return (waiter is None or waiter.done()) and asyncio.current_task(owner.get_loop()) is not owner


def whereabouts(checkout: Checkout) -> Site:
    """The app's lines at which the holder is now, innermost first; empty if that cannot be told."""
    owner = checkout.owner() if checkout.owner is not None else None
    if isinstance(owner, Task) and not owner.done():
        if asyncio.current_task(owner.get_loop()) is not owner:
            return _awaited(owner.get_coro())
        request = checkout.request
        return _lines_of_thread(request.thread) if request is not None else ()
    if isinstance(owner, ThreadToken):
        return _lines_of_thread(owner.thread)
    return ()


def _lines_of_thread(thread: int) -> Site:
    return call_site(sys._current_frames().get(thread))


def _awaited(awaitable: Any) -> Site:
    """The lines of a suspended coroutine and of those it awaits. What an async generator awaits is out of reach."""
    site: list[tuple[CodeType, int]] = []
    while awaitable is not None:
        frame: FrameType | None = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if frame is not None and APP_CODE.owns(frame.f_code):
            site.insert(0, (frame.f_code, frame.f_lineno))
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)
    return tuple(site[:LIMIT])
