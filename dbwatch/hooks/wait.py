"""The wait itself: the blocking branch of the queue that ``QueuePool`` takes connections from.

Taking the whole of ``Pool.connect`` less the connect for the wait would call a slow ping, the dialect's
initialisation, or another listener a wait. ``sqlalchemy.util.queue`` is not documented as public; where it is not as
expected, nothing is wrapped, waits are not told apart, and :func:`install` says so.
"""

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any

from dbwatch.context import ATTEMPT
from dbwatch.guard import guarded
from dbwatch.records import Checkout

#: A blocking call that found the queue filled and still took this long has waited: the first bucket of the histogram.
UNSEEN_WAIT_SECONDS = 0.0005


def wrap_get(original: Callable[..., Any]) -> Callable[..., Any]:
    """The queue's ``get`` with a blocking call on an empty queue timed as a wait."""

    @functools.wraps(original)
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        checkout = begin(self) if block else None
        if checkout is None:
            return original(self, block, timeout)
        try:
            return original(self, block, timeout)
        finally:
            end(checkout)

    return get


@guarded("wait.begin")
def begin(queue: Any) -> Checkout | None:
    """A checkout asks the queue for a connection, and waits if none is free.

    A full pool always makes the blocking call, also when connections lie free; those calls are no waits.
    """
    checkout = ATTEMPT.get()
    if checkout is not None:
        if queue.empty():
            checkout.pool.waiting[checkout] = None
            request = checkout.request
            if request is not None:
                if request.waiting is None:
                    request.waiting = {}
                request.waiting[checkout] = None
        checkout.wait_started = perf_counter()
    return checkout


@guarded("wait.end")
def end(checkout: Checkout) -> None:
    """The call is over: served, timed out or cancelled. A checkout may wait more than once.

    Between our look at the queue and the call somebody else may take what lay there; then only the time tells.
    """
    if checkout.wait_started is None:
        return
    seconds = perf_counter() - checkout.wait_started
    checkout.wait_started = None
    # pop() gives None to whom it finds: the dict serves as an ordered set.
    queued = checkout.pool.waiting.pop(checkout, checkout) is None
    if queued and checkout.request is not None and checkout.request.waiting:
        checkout.request.waiting.pop(checkout, None)
    if queued or seconds >= UNSEEN_WAIT_SECONDS:
        checkout.wait = (checkout.wait or 0.0) + seconds


def install() -> str:
    """Wrap both queue classes. Returns what is only approximate, empty if nothing is."""
    try:
        from sqlalchemy.util.queue import AsyncAdaptedQueue, Queue  # noqa: PLC0415  absence is an answer here
    except ImportError:
        return "waits are not told apart from the rest of the checkout time (sqlalchemy.util.queue has changed)"
    for kind in (Queue, AsyncAdaptedQueue):
        kind.get = wrap_get(kind.get)  # type: ignore[method-assign]
    return ""
