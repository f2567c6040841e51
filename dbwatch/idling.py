"""A look, some times a second, at the holds in which no SQL runs: where is the holder, and could it have gone on?

Between two statements a hold is idle, but that alone accuses nobody: on an overloaded machine a task that could go on
waits for its turn. A thread tells the two apart while it happens; afterwards nobody can. It changes nothing about a
hold but its :class:`~dbwatch.records.Idling`.
"""

import math
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Container

from dbwatch.guard import guarded
from dbwatch.holders import could_go_on, whereabouts
from dbwatch.pools import POOLS
from dbwatch.records import Checkout, Idling, Request
from dbwatch.settings import THRESHOLDS
from dbwatch.turns import standing_still

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
            pause = _pause()
            time.sleep(pause)
            now = time.perf_counter()
            look(now - last, (now - last) > LATE * pause)
            last = now

    def idle_at_most(self, checkout: Checkout) -> float:
        """Seconds that a hold may have been idle by its holder's own doing: what was seen, and a pause at either end of
        each stretch, unless the holder was seen to wait for its turn: then it may have done so there as well. Infinite
        where nobody looks.
        """
        if self._thread is None:
            return math.inf
        idling = checkout.idling
        if idling is None:
            return 0.0
        return idling.seen + (0.0 if idling.excused else 2 * idling.gaps * _pause())


def _pause() -> float:
    return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, THRESHOLDS.idle_hold_seconds / 5))


WATCH = Watch()


@guarded("idling.look")
def look(passed: float, late: bool) -> None:
    """Look at every open hold, ``passed`` seconds after the last look."""
    holds = [checkout for pool in POOLS.watched() if pool.open and not pool.shared for checkout in list(pool.open)]
    loops = {checkout.request.loop for checkout in holds if checkout.request is not None}
    still = standing_still(loop for loop in loops if loop is not None)
    for checkout in holds:
        if checkout.request is not None and checkout.statements:
            _look_at(checkout, checkout.request, still, passed, late)


def _look_at(
    checkout: Checkout, request: Request, still: Container[AbstractEventLoop], passed: float, late: bool
) -> None:
    idling = checkout.idling
    if checkout.running:
        return
    if idling is None:
        idling = checkout.idling = Idling()
    if idling.since != checkout.running_since:
        # Something ran since the last look: a stretch begins.
        idling.since = checkout.running_since
        idling.gaps += 1
        return
    if late or _runs_elsewhere(checkout, request) or could_go_on(checkout, request, still):
        idling.excused += passed
        return
    idling.seen += min(passed, _pause())  # a look that comes a little late may have been kept from coming
    if not idling.site and idling.seen >= THRESHOLDS.idle_hold_seconds / 2:
        idling.site = whereabouts(checkout)


def _runs_elsewhere(checkout: Checkout, request: Request) -> bool:
    """True if the request runs SQL on another connection meanwhile, or is about to have one: one session may have a
    primary and a replica.
    """
    attempt = request.attempt
    if request.waiting or (attempt is not None and attempt.outcome is None):
        return True
    return any(other is not checkout and other.running_what is not None for other in list(request.open))
