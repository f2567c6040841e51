"""What else keeps a holder from going on: an event loop that another task blocks, and a threadpool with no free thread.

In either case the holder does nothing with its connection and is not to blame. Both are looked up in the tasks of its
event loop, from whichever thread asks.
"""

import asyncio
import gc
from asyncio import AbstractEventLoop, Task
from collections.abc import Iterable, Iterator
from time import perf_counter
from types import AsyncGeneratorType, CodeType, FrameType
from typing import Any, Final

from dbwatch.records import Request

#: Where a scope carries the request it belongs to.
REQUEST_KEY: Final = "dbwatch.request"
#: Seconds for which a look at the tasks of a loop serves: of many victims, each asks.
FRESH_SECONDS: Final = 0.1
#: Nor is there another look before so many times as long as the last one took: a loop may have thousands of tasks, and
#: looking at them must not be what keeps it busy.
REST: Final = 20.0


def frames_awaited(awaitable: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine and of what it awaits, outermost first. Python keeps the frame objects that
    somebody has looked at until their coroutines end.
    """
    for one, kind in _chain(awaitable):
        frame: FrameType | None = getattr(one, f"{kind}_frame")
        if frame is not None:
            yield frame


def codes_awaited(awaitable: Any) -> Iterator[CodeType]:
    """The code objects of :func:`frames_awaited`, which makes no frame objects."""
    return (getattr(one, f"{kind}_code") for one, kind in _chain(awaitable))


def _chain(awaitable: Any) -> Iterator[tuple[Any, str]]:
    """A suspended coroutine and what it awaits, each with the first letters of its attributes' names."""
    while awaitable is not None:
        if type(awaitable).__name__ in ("async_generator_asend", "async_generator_athrow"):
            # One step of an async generator, which has no attribute for what it is a step of.
            awaitable = next((o for o in gc.get_referents(awaitable) if isinstance(o, AsyncGeneratorType)), None)
        for kind, next_name in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            if hasattr(awaitable, next_name):
                yield awaitable, kind
                awaitable = getattr(awaitable, next_name)
                break
        else:
            return


def closes_generator(task: "Task[Any]") -> bool:
    """True if a task closes an asynchronous generator that was left, as the event loop does it (``aclose()``)."""
    return type(task.get_coro()).__name__ == "async_generator_athrow"


def queues_for_thread(task: "Task[Any]") -> bool:
    """True if a task waits until AnyIO has a thread for its call, as FastAPI makes it for a plain ``def``."""
    calls = False
    for code in codes_awaited(task.get_coro()):
        name = code.co_name
        if name == "acquire_on_behalf_of":
            return calls
        calls = calls or name == "run_sync_in_worker_thread"
    return False


class _Queue:
    """The requests of an event loop that wait for a thread at one moment, by number: it keeps none of them alive."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        began = perf_counter()
        self.numbers: set[int] = set()
        for task in asyncio.all_tasks(loop):
            if queues_for_thread(task):
                self.numbers.update(request.number for request in _requests_of(task))
        now = perf_counter()
        self.fresh_until = now + max(FRESH_SECONDS, REST * (now - began))


def _requests_of(task: "Task[Any]") -> Iterator[Request]:
    """The request that a task works for, by the ASGI scope in its frames: a middleware may have spawned the task."""
    for frame in frames_awaited(task.get_coro()):
        if "scope" in frame.f_code.co_varnames:
            scope = frame.f_locals.get("scope")
            request = scope.get(REQUEST_KEY) if isinstance(scope, dict) else None
            if isinstance(request, Request):
                yield request


#: By the identity of the loop.
_queues: dict[int, _Queue] = {}


def waits_for_thread(request: Request) -> bool:
    """True if a request waits for a thread of the threadpool, none being free."""
    loop = request.loop
    if loop is None:
        return False
    queue = _queues.get(id(loop))
    if queue is None or perf_counter() > queue.fresh_until:
        _queues.clear()
        try:
            queue = _queues[id(loop)] = _Queue(loop)
        except RuntimeError:  # tasks come and go too fast to be listed
            return False
    return request.number in queue.numbers


#: The task that each event loop ran at the last look, both by identity.
_ran: dict[int, int] = {}


def standing_still(loops: Iterable[AbstractEventLoop]) -> set[AbstractEventLoop]:
    """Of some event loops, those that run the very task that they ran at the last look: it blocks all others."""
    now = {loop: task for loop in loops if (task := asyncio.current_task(loop)) is not None}
    still = {loop for loop, task in now.items() if _ran.get(id(loop)) == id(task)}
    _ran.clear()
    _ran.update({id(loop): id(task) for loop, task in now.items()})
    return still
