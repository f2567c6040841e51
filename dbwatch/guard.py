"""The one guard between dbwatch and the application it watches: an error of ours never reaches the app.

Every listener, wrapper and output of dbwatch runs behind :func:`guarded`. It catches ``Exception`` (never
``KeyboardInterrupt``, ``CancelledError`` and the like, which belong to the app), remembers where it happened, and lets
the app go on. What is remembered becomes ``dbwatch_internal_errors_total{site}`` and one log record for each site.

Listeners can run inside a garbage collection, in the middle of anybody's critical section. So noting an error only
appends to a deque; counting and logging wait for :func:`drain`, which the ledger calls.
"""

import functools
import logging
from collections import deque
from collections.abc import Callable
from traceback import TracebackException
from typing import TypeVar, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

logger = logging.getLogger("dbwatch")

#: Each guarded callable by its site, so that a test can make every one of them fail.
SITES: dict[str, Callable[..., object]] = {}

_noted: deque[tuple[str, TracebackException | None]] = deque(maxlen=10_000)
_seen: set[str] = set()


def guarded(site: str) -> Callable[[Callable[[Unpack[Ts]], R]], Callable[[Unpack[Ts]], R | None]]:
    """Make a callable that returns None instead of raising ``Exception``, and notes the error under ``site``.

    Positional arguments only: passing keywords on would double the cost of the guard.
    """

    def decorate(function: Callable[[Unpack[Ts]], R]) -> Callable[[Unpack[Ts]], R | None]:
        @functools.wraps(function)
        def guard(*args: *Ts) -> R | None:
            try:
                return function(*args)
            except Exception as error:  # noqa: BLE001  the one place that must catch all
                try:  # noqa: SIM105  suppress() would need the very frame that is missing
                    note(site, error)
                except RecursionError:  # the app has left room for this frame, and not for one more
                    pass
                return None

        SITES[site] = guard
        return guard

    return decorate


def note(site: str, error: Exception) -> None:
    """Remember an error of ours. Safe inside a garbage collection: appends, takes no lock, logs nothing.

    Only the first error of a site keeps its traceback, as text positions without frames: a kept frame would pin the
    app's local variables, and with them its connections.
    """
    try:
        report = None
        if site not in _seen:
            _seen.add(site)
            report = TracebackException.from_exception(error, lookup_lines=False)
        _noted.append((site, report))
    except Exception:  # noqa: BLE001, S110  the last line of defence has nowhere left to report to
        pass


def drain() -> list[tuple[str, TracebackException | None]]:
    """Take what has been noted since the last call: sites, with the traceback of the first error of each.

    For the ledger's fold, which one thread makes at a time.
    """
    taken = []
    while _noted:
        taken.append(_noted.popleft())
    return taken


def report(noted: tuple[str, TracebackException]) -> None:
    """Log the first error of a site with its traceback."""
    site, trace = noted
    logger.error(
        "dbwatch failed at %s and went on; the application is not affected, but numbers may be missing. "
        "Please report this.\n%s",
        site,
        "".join(trace.format()).rstrip(),
        extra={"dbwatch_site": site},
    )


def forget() -> None:
    """Start anew in a forked child, which must not report its parent's errors."""
    _noted.clear()
    _seen.clear()
