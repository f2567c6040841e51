"""Who holds a connection, doing what, and at which line now: of the holds that are open, for whoever tells of them."""

import asyncio
import sys
from asyncio import Task
from types import CodeType, FrameType
from typing import Any, Final

from dbwatch.callsites import APP_CODE, LIMIT, call_site, describe, line_of
from dbwatch.context import ThreadToken
from dbwatch.facts import Holder
from dbwatch.records import NO_REQUEST, Checkout, Site
from dbwatch.routes import route_of
from dbwatch.sqltext import shortened

#: Idle seconds from which a holder is no longer merely between two statements.
IDLE_SECONDS: Final = 0.1


def holder_of(checkout: Checkout, now: float) -> Holder:
    """The holder of a connection that is out."""
    request = checkout.request
    age = checkout.hold_seconds(now)
    idles = not checkout.running and not checkout.leaked and age - checkout.executing >= IDLE_SECONDS
    return Holder(
        method=NO_REQUEST if request is None else request.method,
        route=NO_REQUEST if request is None else route_of(request),
        age_seconds=age,
        executing=checkout.running > 0,
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
    return "gave up waiting for another connection" if checkout.starved else ""


def _first(site: Site) -> str:
    return describe(site[:1])[0] if site else ""


def could_go_on(checkout: Checkout) -> bool:
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
            site.insert(0, (frame.f_code, line_of(frame)))
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)
    return tuple(site[:LIMIT])
