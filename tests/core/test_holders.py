"""Who holds a connection, by itself: what it does and wants, whether it could go on, and at which line it is."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, Self
from weakref import ref

import anyio
import anyio.to_thread
import pytest

from dbwatch import turns
from dbwatch.callsites import LIMIT, describe
from dbwatch.context import ThreadToken
from dbwatch.holders import IDLE_SECONDS, WANTS_A_THREAD, could_go_on, holder_of, wants, whereabouts
from dbwatch.records import NO_REQUEST, Checkout, Request, Site
from tests.core.connections import soon
from tests.core.made import a_pool, a_request
from tests.servers.waiting import eventually

NOW = 1000.0


def a_hold(request: Request | None = None, owner: object = None, **noted: Any) -> Checkout:
    checkout = Checkout(a_pool(), request, NOW - 3.0)
    checkout.taken_at = NOW - 2.0
    checkout.owner = None if owner is None else ref(owner)
    for name, value in noted.items():
        setattr(checkout, name, value)
    return checkout


def names(site: Site) -> list[str]:
    return [code.co_name for code, _line in site]


@pytest.fixture(autouse=True)
def nobody_queues() -> Iterator[None]:
    turns._queues.clear()
    yield
    turns._queues.clear()


# What it does


def test_a_holder_is_described_by_its_request_and_its_hold() -> None:
    held = a_hold(a_request(), executing=0.5, statements=3, overflow=True, last_statement="SELECT  1")
    told = holder_of(held, NOW)
    assert (told.method, told.route, told.age_seconds, told.executing_seconds) == ("GET", "/items", 2.0, 0.5)
    assert (told.executing, told.statements, told.leaked, told.overflow) == (False, 3, False, True)
    assert (told.last_statement, told.now_at, told.made_at, told.wants) == ("SELECT 1", "", "", "")
    assert (holder_of(a_hold(), NOW).method, holder_of(a_hold(), NOW).route) == (NO_REQUEST, NO_REQUEST)


async def test_where_a_holder_is_now_is_told_once_it_has_idled_and_where_its_session_was_made_if_it_has_leaked() -> (
    None
):
    me = asyncio.current_task()
    here: Site = ((a_hold.__code__, 7),)
    for noted, told in (
        ({"taken_at": NOW - IDLE_SECONDS - 0.01}, True),
        ({"taken_at": NOW - IDLE_SECONDS + 0.01}, False),
        ({"executing": 2.0 - IDLE_SECONDS + 0.01}, False),
        ({"running_what": object(), "running_since": NOW}, False),
        ({"leaked": True}, False),
    ):
        holder = holder_of(a_hold(a_request(), me, made_at=here, **noted), NOW)
        assert bool(holder.now_at) is told, noted
        assert holder.made_at == (describe(here)[0] if "leaked" in noted else "")


# What it wants


def test_a_holder_may_be_waiting_for_another_connection_of_its_pool_or_have_given_up() -> None:
    request = a_request()
    held, other = a_hold(request), Checkout(a_pool("other"), request, NOW)
    assert wants(held) == ""
    request.waiting = {other: None}
    assert wants(held) == ""
    request.waiting[Checkout(held.pool, request, NOW)] = None
    assert wants(held) == "waiting for another connection"
    assert wants(a_hold(None, starved=True)) == "gave up waiting for another connection"
    assert wants(a_hold()) == ""


class Queue:
    """Requests of which one has the only thread and the other waits for it."""

    def __init__(self) -> None:
        self.limiter = anyio.CapacityLimiter(1)
        self.go_on = threading.Event()
        self.waits = a_request()

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.create_task(self.call({}))]
        await soon(lambda: self.limiter.borrowed_tokens == 1)
        self.tasks.append(asyncio.create_task(self.call({turns.REQUEST_KEY: self.waits})))
        await soon(lambda: self.limiter.statistics().tasks_waiting == 1)
        return self

    async def call(self, scope: dict[str, Any]) -> bool:
        assert isinstance(scope, dict)
        return await anyio.to_thread.run_sync(self.go_on.wait, 20.0, limiter=self.limiter)

    async def __aexit__(self, *_error: object) -> None:
        self.go_on.set()
        await asyncio.gather(*self.tasks)


async def test_a_holder_whose_call_has_ended_may_be_waiting_for_a_thread() -> None:
    async with Queue() as queue:
        assert wants(a_hold(queue.waits)) == WANTS_A_THREAD
        assert could_go_on(a_hold(queue.waits), queue.waits, set())
        assert could_go_on(a_hold(queue.waits, queue.tasks[1]), queue.waits, set())
        token, other = ThreadToken(), a_request()
        assert wants(a_hold(queue.waits, token)) == "", "its call goes on"
        assert wants(a_hold(queue.waits, running_what=object())) == ""
        assert wants(a_hold(queue.waits, leaked=True)) == ""
        assert wants(a_hold(other)) == ""
        assert not could_go_on(a_hold(other), other, set())
        assert not could_go_on(a_hold(queue.waits, token), queue.waits, set())


# Could it go on?


async def test_a_task_could_go_on_unless_it_waits_for_something_that_has_not_come() -> None:
    request, loop = a_request(), asyncio.get_running_loop()
    awaited: asyncio.Future[None] = loop.create_future()

    async def wait() -> None:
        await awaited

    task = asyncio.create_task(wait())
    held = a_hold(request, task)
    assert could_go_on(held, request, set()), "it has not had its first turn"
    await asyncio.sleep(0)
    assert not could_go_on(held, request, set())
    assert could_go_on(held, request, {loop}), "another task blocks the loop"
    awaited.set_result(None)
    assert could_go_on(held, request, set()), "what it waits for has come"
    me = a_hold(request, asyncio.current_task())
    assert not could_go_on(me, request, {loop}), "it has its turn"
    await task
    assert not could_go_on(held, request, set())
    assert could_go_on(held, request, {loop}), "it has ended, and its request goes on in that loop"


# Where is it?


async def test_a_task_that_waits_is_where_it_awaits_innermost_first() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def inner(depth: int) -> None:
        if depth:
            await inner(depth - 1)
        await never

    async def outer() -> None:
        await inner(0)

    task, deep = asyncio.create_task(outer()), asyncio.create_task(inner(LIMIT + 3))
    await asyncio.sleep(0)
    assert names(whereabouts(a_hold(None, task))) == ["inner", "outer"]
    assert names(whereabouts(a_hold(None, deep))) == ["inner"] * LIMIT
    innermost, caller = whereabouts(a_hold(None, deep))[:2]
    assert innermost[1] == caller[1] + 1
    task.cancel()
    deep.cancel()
    await asyncio.wait([task, deep])
    assert whereabouts(a_hold(None, task)) == ()
    assert whereabouts(a_hold()) == ()


async def test_a_task_that_has_its_turn_is_where_its_thread_is() -> None:
    me = asyncio.current_task()
    site = whereabouts(a_hold(a_request(), me))
    assert names(site)[0] == "test_a_task_that_has_its_turn_is_where_its_thread_is"
    assert whereabouts(a_hold(None, me)) == ()


def test_a_call_in_a_thread_is_where_that_thread_is() -> None:
    tokens, go_on = list[ThreadToken](), threading.Event()

    def call() -> None:
        tokens.append(ThreadToken())
        go_on.wait(20.0)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        eventually(lambda: tokens)
        assert "call" in names(whereabouts(a_hold(None, tokens[0])))
    finally:
        go_on.set()
        thread.join()
