"""Who holds a connection, doing what, and at which line now: of the holds that are open, for whoever tells of them."""

import asyncio
import sys
from asyncio import AbstractEventLoop, Task
from asyncio.events import _get_running_loop
from collections.abc import Container, Iterator
from types import FrameType
from typing import Any, Final

from dbwatch.callsites import APP_CODE, LIMIT, call_site, describe, line_of
from dbwatch.context import ThreadToken
from dbwatch.facts import Holder
from dbwatch.records import NO_REQUEST, Checkout, Request, Site
from dbwatch.routes import route_of
from dbwatch.sqltext import shortened
from dbwatch.turns import frames_awaited, queues_for_thread, waits_for_thread

#: Idle seconds from which a holder is no longer merely between two statements.
IDLE_SECONDS: Final = 0.1
#: What a holder wants whose request waits for a thread.
WANTS_A_THREAD: Final = "waiting for a thread"


def holder_of(checkout: Checkout, now: float) -> Holder:
    """The holder of a connection that is out."""
    request = checkout.request
    age = checkout.hold_seconds(now)
    idles = not checkout.running and not checkout.leaked and age - checkout.executing >= IDLE_SECONDS
    return Holder(
        method=NO_REQUEST if request is None else request.method,
        route=NO_REQUEST if request is None else route_of(request),
        age_seconds=age,
        executing=checkout.running,
        executing_seconds=checkout.executing_seconds(now),
        statements=checkout.statements,
        leaked=checkout.leaked,
        overflow=checkout.overflow,
        lines=describe(checkout.site),
        last_statement=shortened(checkout.last_statement),
        now_at=_first(whereabouts(checkout)) if idles else "",
        made_at=_first(checkout.made_at) if checkout.leaked else "",
        wants=wants(checkout),
    )


def wants(checkout: Checkout) -> str:
    """What the holder's request waits for besides, in words; empty if nothing is known of it."""
    waiting = checkout.request.waiting if checkout.request is not None else None
    if waiting and any(other.pool.name == checkout.pool.name for other in list(waiting)):
        return "waiting for another connection"
    if checkout.starved:
        return "gave up waiting for another connection"
    return WANTS_A_THREAD if _wants_a_thread(checkout) else ""


def _wants_a_thread(checkout: Checkout) -> bool:
    """A holder whose call in a thread has ended, and whose request waits until it gets one for its next."""
    owner = _owner(checkout)
    if owner is not None or checkout.running or checkout.leaked or checkout.request is None:
        return False
    return waits_for_thread(checkout.request)


def _owner(checkout: Checkout) -> Any:
    """What took the connection, a task or the token of a call in a thread; None once that is gone."""
    return None if checkout.owner is None else checkout.owner()


def _first(site: Site) -> str:
    return describe(site[:1])[0] if site else ""


def could_go_on(checkout: Checkout, request: Request, still: Container[AbstractEventLoop]) -> bool:
    """True if the holder waits for nothing but its turn: on the event loop, which may be standing ``still`` because
    another task blocks it, or for a thread.
    """
    owner = _owner(checkout)
    if isinstance(owner, ThreadToken):
        return False  # its call in a thread goes on
    if not isinstance(owner, Task) or owner.done():
        # Between two calls in threads, as a dependency's and the endpoint's.
        return request.loop in still or waits_for_thread(request)
    loop = owner.get_loop()
    if asyncio.current_task(loop) is owner:
        return False
    try:
        waiter = owner._fut_waiter  # type: ignore[attr-defined]  # noqa: SLF001  private, but of all tasks (3.11 to 3.14)
    except AttributeError:
        return False
    return waiter is None or waiter.done() or loop in still or queues_for_thread(owner)


def whereabouts(checkout: Checkout) -> Site:
    """The app's lines at which the holder is now, innermost first; empty if that cannot be told."""
    owner = _owner(checkout)
    if isinstance(owner, Task) and not owner.done():
        if asyncio.current_task(owner.get_loop()) is not owner:
            return _awaited(owner.get_coro())
        request = checkout.request
        return _lines_of_thread(request.thread) if request is not None else ()
    if isinstance(owner, ThreadToken):
        return _lines_of_thread(owner.thread)
    return ()


def task_using(checkout: Checkout) -> "Task[Any] | None":
    """Another task of this thread's loop that is inside SQLAlchemy with a connection now.

    ``async with`` of AsyncConnection and AsyncSession closes in a task of its own, shielded (2.0 and 2.1): a cancelled
    request ends before its connection is back.
    """
    proxy = checkout.proxy() if checkout.proxy is not None else None
    if proxy is None or _get_running_loop() is None:
        return None
    current = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not current and any(_has_local(frame, proxy) for frame in _sqlalchemy_frames(task.get_coro())):
            return task
    return None


def _sqlalchemy_frames(coroutine: Any) -> Iterator[FrameType]:
    """The frames of SQLAlchemy's greenlet that a suspended coroutine waits for, innermost first."""
    for frame in filter(_is_sqlalchemys, frames_awaited(coroutine)):
        for local in list(frame.f_locals.values()):
            yield from _frames_of(getattr(local, "gr_frame", None))


def _frames_of(innermost: FrameType | None) -> Iterator[FrameType]:
    frame = innermost
    while frame is not None:
        if _is_sqlalchemys(frame):
            yield frame
        frame = frame.f_back


def _is_sqlalchemys(frame: FrameType) -> bool:
    # Of the app's own frames the locals are not read: up to Python 3.12 that would keep them alive.
    return str(frame.f_globals.get("__name__")).startswith("sqlalchemy.")


def _has_local(frame: FrameType, value: object) -> bool:
    return any(local is value for local in frame.f_locals.values())


def _lines_of_thread(thread: int) -> Site:
    return call_site(sys._current_frames().get(thread))


def _awaited(awaitable: Any) -> Site:
    """The app's lines of a suspended coroutine and of what it awaits."""
    lines = [(frame.f_code, line_of(frame)) for frame in frames_awaited(awaitable) if APP_CODE.owns(frame.f_code)]
    return tuple(lines[: -LIMIT - 1 : -1])
