"""Whose checkout is this? The context variables of a request and an attempt, and the evidence of a checkout's owner.

The request is read from its context variable at checkout only. Afterwards the checkout record is the truth: a spawned
task inherits the variable and outlives the request, and a listener driven by the garbage collector sees somebody
else's.
"""

from asyncio import Task, current_task
from asyncio.events import _get_running_loop  # exported by asyncio.events; get_running_loop() raises, which costs more
from contextvars import ContextVar
from threading import get_ident
from typing import Any
from weakref import ref

from dbwatch.records import Checkout, Request
from dbwatch.turns import frames_awaited

REQUEST: ContextVar[Request | None] = ContextVar("dbwatch_request", default=None)
#: The attempt to check out that is under way; visible inside SQLAlchemy's greenlets as well.
ATTEMPT: ContextVar[Checkout | None] = ContextVar("dbwatch_attempt", default=None)


class ThreadToken:
    """Lives exactly as long as the copied context of one ``run_in_threadpool`` or ``to_thread`` call.

    Threads of a pool are reused, so "the thread is still running" says nothing about the call that took the
    connection; the context of that call does.
    """

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        self.thread = get_ident()


_THREAD_TOKEN: ContextVar[ThreadToken | None] = ContextVar("dbwatch_thread_token", default=None)


def owner_now() -> "ref[Any] | None":
    """A weak reference to what runs now: the asyncio task, or, in a thread without a loop, the context's token."""
    loop = _get_running_loop()
    if loop is not None:
        task = current_task(loop)
        return None if task is None else ref(task)
    token = _THREAD_TOKEN.get()
    if token is None:
        token = ThreadToken()
        _THREAD_TOKEN.set(token)
    return ref(token)


def owner_is_running(owner: "ref[Any] | None") -> bool:
    """True if the owner may still give the connection back: a task that is not done and not the one asking, or the
    context of a thread's call that still exists.

    Asked by the middleware at the end of a request, in the request's own task: that task is at its end as far as the
    request is concerned.
    """
    alive = None if owner is None else owner()
    if alive is None:
        return False
    if isinstance(alive, Task):
        if alive.done():
            return False
        loop = _get_running_loop()
        return loop is None or alive is not current_task(loop)
    return True


def waits_for(holder: "ref[Any] | None", other: "ref[Any] | None") -> bool:
    """True if ``holder`` will not go on before ``other`` is done, as far as that can be proven.

    The same task, or the same call in a thread, does one thing at a time. A call in a thread that has ended has left
    its connection with the request itself, which waits. A task waits for another if it awaits it, directly or through
    ``gather``, ``wait``, ``wait_for``, a task group, a middleware's ``call_next`` or the end of an ``async with`` of
    SQLAlchemy's; for a task that it has merely spawned it does not wait. Whether it awaits a call in a thread cannot
    be told from here, so that proves nothing.
    """
    first = None if holder is None else holder()
    second = None if other is None else other()
    if first is None or first is second:
        return True
    if isinstance(first, Task):
        return first.done() or (isinstance(second, Task) and _awaits(first, second))
    return False


#: Modules whose coroutines wait for tasks: groups, ``wait()`` and ``wait_for()``; AnyIO's groups (4); ``call_next()``;
#: what leaves a block of SQLAlchemy's (2.1; in 2.0 with a function of its own in either module).
_AWAIT_TASKS = frozenset(
    (
        *("asyncio.taskgroups", "asyncio.tasks", "anyio._backends._asyncio", "starlette.middleware.base"),
        *("sqlalchemy.ext.asyncio.base", "sqlalchemy.ext.asyncio.engine", "sqlalchemy.ext.asyncio.session"),
    )
)
#: Tasks that wait for one another are followed so far: a middleware of Starlette's runs the next one in a task.
_LINKS = 10


def _awaits(task: "Task[Any]", other: "Task[Any]", links: int = _LINKS) -> bool:
    awaited = _awaited_by(task)
    return other in awaited or (links > 0 and any(_awaits(one, other, links - 1) for one in awaited))


def _awaited_by(task: "Task[Any]") -> "set[Task[Any]]":
    waiter = getattr(task, "_fut_waiter", None)  # private, but of C tasks and Python tasks alike (3.11 to 3.14)
    found = {waiter, *getattr(waiter, "_children", ())}
    for frame in frames_awaited(task.get_coro()):
        if frame.f_globals.get("__name__") in _AWAIT_TASKS:
            names = frame.f_locals
            found.update(getattr(names.get("self"), "_tasks", ()), getattr(names.get("task_group"), "_tasks", ()))
            # The last two in wait_for() of 3.11, and where SQLAlchemy shields a task of its own.
            found.update(names.get("fs", ()), [names.get("fut"), names.get("task")])
    return {one for one in found if isinstance(one, Task) and one is not task and not one.done()}
