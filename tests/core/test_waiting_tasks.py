"""Who waits for whom: tasks for tasks, a request for a thread, and everybody for a loop that is blocked."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import ref

import anyio
import anyio.to_thread
import pytest

from dbwatch import turns
from dbwatch.context import _LINKS, ThreadToken, owner_is_running, waits_for
from tests.core.connections import soon
from tests.core.made import a_request


async def started(coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """A task that has come to what it waits for."""
    task = asyncio.create_task(coroutine)
    for _ in range(5):
        await asyncio.sleep(0)
    return task


# Owners


async def test_an_owner_runs_as_long_as_its_task_is_neither_done_nor_the_one_that_asks() -> None:
    waits = asyncio.Event()
    other = await started(waits.wait())
    assert owner_is_running(ref(other))
    waits.set()
    await other
    assert not owner_is_running(ref(other))
    me = asyncio.current_task()
    assert me is not None
    assert not owner_is_running(ref(me))
    assert await asyncio.to_thread(owner_is_running, ref(me))


def test_an_owner_runs_as_long_as_the_context_of_its_call_exists() -> None:
    token = ThreadToken()
    owner = ref(token)
    assert owner_is_running(owner)
    del token
    assert not owner_is_running(owner)
    assert not owner_is_running(None)


async def test_a_call_in_a_thread_proves_nothing_about_who_waits_for_it_until_it_has_ended() -> None:
    me, token = asyncio.current_task(), ThreadToken()
    assert me is not None
    call = ref(token)
    assert waits_for(call, call)
    assert not waits_for(call, ref(me))
    assert not waits_for(ref(me), call)
    del token
    assert waits_for(call, ref(me))


async def in_a_chain(length: int) -> "tuple[asyncio.Task[Any], asyncio.Task[Any]]":
    """The first and the last of tasks of which each awaits the next."""
    ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def link(to: Any) -> None:
        await to

    last = first = await started(link(ends))
    for _ in range(length - 1):
        first = await started(link(first))
    return first, last


@pytest.mark.parametrize(
    ("links", "followed"), [(1, True), (2, True), (_LINKS + 1, True), (_LINKS + 2, False), (_LINKS + 30, False)]
)
async def test_a_chain_of_tasks_that_await_each_other_is_followed_so_far(links: int, followed: bool) -> None:
    first, last = await in_a_chain(links + 1)
    assert waits_for(ref(first), ref(last)) is followed
    assert not waits_for(ref(last), ref(first))
    first.cancel()
    await asyncio.wait([first, last])


# Threads


def call_in_thread(limiter: anyio.CapacityLimiter, go_on: threading.Event) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def call() -> bool:
        return await anyio.to_thread.run_sync(go_on.wait, 20.0, limiter=limiter)

    return call


async def test_only_a_call_for_which_no_thread_is_free_queues_for_one() -> None:
    limiter, go_on = anyio.CapacityLimiter(1), threading.Event()
    call = call_in_thread(limiter, go_on)
    runs, queues = await started(call()), await started(call())
    takes_part = await started(limiter.acquire())  # the same queue, but no call
    sleeps = await started(asyncio.sleep(20))
    try:
        assert [turns.queues_for_thread(task) for task in (runs, queues, takes_part, sleeps)] == [
            *(False, True, False, False)
        ]
    finally:
        takes_part.cancel()
        sleeps.cancel()
        go_on.set()
        await asyncio.gather(runs, queues)


async def test_a_look_at_who_queues_serves_for_a_moment_and_is_then_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, go_on, request = anyio.CapacityLimiter(1), threading.Event(), a_request()
    call = call_in_thread(limiter, go_on)

    async def works_for(scope: dict[str, Any]) -> None:
        await call()

    monkeypatch.setattr(turns, "FRESH_SECONDS", 3600.0)
    turns._queues.clear()
    assert not turns.waits_for_thread(request)
    runs = await started(call())
    queues = await started(works_for({turns.REQUEST_KEY: request}))
    try:
        assert not turns.waits_for_thread(request), "the first look still serves"
        monkeypatch.undo()
        turns._queues.clear()
        assert turns.waits_for_thread(request)
        assert not turns.waits_for_thread(a_request())
        go_on.set()
        await asyncio.gather(runs, queues)
        await soon(lambda: not turns.waits_for_thread(request))
    finally:
        go_on.set()
        await asyncio.gather(runs, queues)


async def test_looks_take_no_more_than_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "FRESH_SECONDS", 0.0)
    tasks = [asyncio.create_task(asyncio.sleep(20)) for _ in range(2000)]
    await asyncio.sleep(0)
    try:
        began = time.perf_counter()
        queue = turns._Queue(asyncio.get_running_loop())
        took = time.perf_counter() - began
        rests = queue.fresh_until - time.perf_counter()
        assert 0 < rests < turns.REST * took
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_of_a_request_without_a_loop_and_of_tasks_that_cannot_be_listed_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request, ended = a_request(), a_request()
    ended.loop = None
    assert not turns.waits_for_thread(ended)

    def come_and_go(_loop: object) -> None:
        raise RuntimeError("Set changed size during iteration")

    turns._queues.clear()
    monkeypatch.setattr("asyncio.all_tasks", come_and_go)
    assert not turns.waits_for_thread(request)


# Loops


def test_a_loop_stands_still_if_it_runs_the_same_task_at_two_looks_in_a_row() -> None:
    loops, blocked, go_on = list[asyncio.AbstractEventLoop](), threading.Event(), threading.Event()

    async def block() -> None:
        loops.append(asyncio.get_running_loop())
        blocked.set()
        go_on.wait(20.0)

    thread = threading.Thread(target=lambda: asyncio.run(block()))
    thread.start()
    idle = asyncio.new_event_loop()
    try:
        assert blocked.wait(20.0)
        watched = {*loops, idle}
        assert turns.standing_still(watched) == set()
        assert turns.standing_still(watched) == {*loops}
        assert turns.standing_still([idle]) == set()
        assert turns.standing_still(watched) == set(), "not seen at the last look"
    finally:
        go_on.set()
        thread.join()
        idle.close()
