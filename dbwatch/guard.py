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
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

logger = logging.getLogger("dbwatch")

#: Each guarded callable by its site, so that a test can make every one of them fail.
SITES: dict[str, Callable[..., object]] = {}

_noted: deque[tuple[str, TracebackException | None]] = deque(maxlen=10_000)
_seen: set[str] = set()


# A guard has the very parameters of what it guards: to collect and pass on any (``*args``) takes longer, and a request
# passes a dozen guards. So they are made from a text, as the methods of dataclasses are.
_GUARD: Final = """
def guard_of(function, site, note):
    def guard({parameters}):
        try:
            return function({parameters})
        except Exception as error:  # the one place that must catch all
            try:
                note(site, error)
            except RecursionError:  # the app has left room for this frame, and not for one more
                pass
            return None
    return guard
"""


def guarded(site: str) -> Callable[[Callable[[Unpack[Ts]], R]], Callable[[Unpack[Ts]], R | None]]:
    """Make a callable that returns None instead of raising ``Exception``, and notes the error under ``site``.

    Positional arguments only, and none with a default.
    """

    def decorate(function: Callable[[Unpack[Ts]], R]) -> Callable[[Unpack[Ts]], R | None]:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        assert not function.__defaults__, function
        assert not {"function", "site", "note"} & {*names}, function
        made: dict[str, Any] = {}
        exec(compile(_GUARD.format(parameters=", ".join(names)), "<dbwatch guard>", "exec"), made)  # noqa: S102
        guard: Callable[[Unpack[Ts]], R | None] = made["guard_of"](function, site, note)
        functools.update_wrapper(guard, function)
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
