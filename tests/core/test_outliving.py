"""Work that outlives its request: no leak while it lives, a leak when it ends without giving the connection back."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dbwatch
from tests.core.conftest import Connect
from tests.core.connections import soon
from tests.core.leaking import Kept, settled, visiting, watched_app
from tests.core.numbers import Numbers


def no_leak(numbers: Numbers) -> bool:
    return numbers("dbwatch_leaks_total") == 0 and numbers("dbwatch_route_events_total", event="leak") == 0


async def visit(work: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
    """Visit an app whose endpoint spawns a task and returns when the task has got its connection."""
    app = watched_app()
    tasks = []

    @app.get("/spawns")
    async def spawn() -> None:
        tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0)

    async with visiting(app) as client:
        assert (await client.get("/spawns")).status_code == 200
    return tasks[0]


async def test_a_spawned_task_that_gives_its_connection_back_later_is_no_leak(
    connect_async: Connect, numbers: Numbers
) -> None:
    connections, finish = connect_async(), asyncio.Event()

    async def work() -> None:
        async with connections.taken():
            await finish.wait()

    task = await visit(work)
    await soon(lambda: numbers.snapshot().used == 1)
    assert no_leak(numbers)
    finish.set()
    await task
    await settled()
    assert no_leak(numbers)
    assert numbers("dbwatch_leaks_returned_total") == 0
    assert numbers.snapshot().used == 0


async def test_a_spawned_task_that_ends_without_giving_its_connection_back_is_a_leak_of_the_route(
    connect_async: Connect, numbers: Numbers
) -> None:
    connections, finish, kept, ready = connect_async(), asyncio.Event(), Kept(), asyncio.Event()
    app = watched_app()
    tasks = []

    async def work() -> None:
        await kept.take(connections.engine)
        ready.set()
        await finish.wait()

    @app.get("/spawns")
    async def spawn() -> None:
        tasks.append(asyncio.create_task(work()))
        await ready.wait()

    async with visiting(app) as client:
        await client.get("/spawns")
    assert not await asyncio.to_thread(dbwatch.settle, 0.05)  # The verdict waits for the task.
    assert no_leak(numbers)
    assert numbers.snapshot().leaked == 0
    finish.set()
    await tasks[0]
    await settled()
    assert numbers.leaks("request_end") == 1
    assert numbers("dbwatch_route_events_total", event="leak", method="GET", route="/spawns") == 1
    assert numbers.snapshot().leaked == 1
    await kept.give_back()
    assert numbers("dbwatch_leaks_returned_total") == 1


@pytest.mark.parametrize("leaks", [False, True])
async def test_a_spawned_task_still_waiting_for_its_connection_when_the_request_ends_is_judged_by_its_own_end(
    connect_async: Connect, numbers: Numbers, leaks: bool
) -> None:
    connections, finish, kept = connect_async(pool_size=1, max_overflow=0), asyncio.Event(), Kept()

    async def work() -> None:
        if leaks:
            await kept.take(connections.engine)
            await finish.wait()
        else:
            async with connections.taken():
                await finish.wait()

    async with connections.taken():
        task = await visit(work)
        assert numbers.snapshot().waiters == 1
    await soon(lambda: [holder.route for holder in numbers.snapshot().holders] == ["/spawns"])
    assert no_leak(numbers)
    finish.set()
    await task
    await settled()
    assert numbers.leaks("request_end") == int(leaks)
    assert numbers("dbwatch_route_events_total", event="leak", route="/spawns") == int(leaks)
    assert numbers("dbwatch_request_checkouts_total", route="/spawns") == 1
    assert numbers.snapshot().leaked == int(leaks)
    await kept.give_back()


async def test_a_connection_taken_after_the_request_is_over_is_nobodys_leak(
    connect_async: Connect, numbers: Numbers
) -> None:
    connections, start, kept = connect_async(), asyncio.Event(), Kept()

    async def work() -> None:
        await start.wait()
        await kept.take(connections.engine)

    task = await visit(work)
    start.set()
    await task
    await settled()
    assert no_leak(numbers)
    assert [holder.route for holder in numbers.snapshot().holders] == ["(none)"]
    await kept.give_back()


async def test_a_cancelled_spawned_task_that_closes_its_connection_is_no_leak(
    connect_async: Connect, numbers: Numbers
) -> None:
    connections = connect_async()

    async def work() -> None:
        async with connections.taken():
            await asyncio.sleep(3600)

    task = await visit(work)
    await soon(lambda: numbers.snapshot().used == 1)
    task.cancel()
    await asyncio.wait([task])
    await settled()
    assert no_leak(numbers)
    assert numbers.snapshot().used == 0


@pytest.mark.parametrize("leaks", [False, True])
async def test_a_thread_that_works_on_after_the_request_is_a_leak_only_if_it_gives_nothing_back(
    tmp_path: Path, numbers: Numbers, leaks: bool
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    ready, finish, kept = threading.Event(), threading.Event(), Kept()
    app = watched_app()
    tasks = []

    def work() -> None:
        connection = engine.connect()
        ready.set()
        assert finish.wait(20)
        if leaks:
            kept.append(connection)
        else:
            connection.close()

    @app.get("/spawns")
    async def spawn() -> None:
        tasks.append(asyncio.create_task(asyncio.to_thread(work)))
        await soon(ready.is_set)

    async with visiting(app) as client:
        await client.get("/spawns")
    assert not await asyncio.to_thread(dbwatch.settle, 0.05)
    assert no_leak(numbers)
    finish.set()
    await tasks[0]
    tasks.clear()
    await settled()
    assert numbers.leaks("request_end") == int(leaks)
    assert numbers("dbwatch_route_events_total", event="leak", route="/spawns") == int(leaks)
    assert numbers.snapshot().used == int(leaks)
    await kept.give_back()
    engine.dispose()


async def test_a_thread_that_does_not_know_its_request_is_never_a_leak(tmp_path: Path, numbers: Numbers) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    kept, app = Kept(), watched_app()

    @app.get("/")
    async def spawn() -> None:
        # Neither copies the context: nothing says whose connections these are.
        await asyncio.get_running_loop().run_in_executor(None, lambda: kept.append(engine.connect()))
        thread = threading.Thread(target=lambda: kept.append(engine.connect()))
        thread.start()
        await asyncio.to_thread(thread.join)

    async with visiting(app) as client:
        await client.get("/")
    await settled()
    assert no_leak(numbers)
    assert {holder.route for holder in numbers.snapshot().holders} == {"(none)"}
    await kept.give_back()
    engine.dispose()


@pytest.mark.parametrize("leaks", [False, True])
def test_hundreds_of_threads_that_outlive_their_requests_are_judged_exactly(
    tmp_path: Path, numbers: Numbers, leaks: bool
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", max_overflow=-1)
    kept, app, done = Kept(), watched_app(), []
    workers = ThreadPoolExecutor(8)

    def work() -> None:
        connection = engine.connect()
        if leaks:
            kept.append(connection)
        else:
            connection.close()

    @app.get("/spawns")
    async def spawn() -> None:
        done.append(workers.submit(copy_context().run, work))

    async def storm() -> None:
        async with visiting(app) as client:
            for _ in range(10):
                await asyncio.gather(*[client.get("/spawns") for _ in range(30)])

    asyncio.run(storm())
    workers.shutdown()
    assert dbwatch.settle(10.0)
    # A connection that a thread asks for when the request is over already is the thread's own affair.
    asked_in_time = numbers("dbwatch_request_checkouts_total", route="/spawns")
    assert numbers.leaks("request_end") == (asked_in_time if leaks else 0)
    assert numbers.snapshot().used == (300 if leaks else 0)
    asyncio.run(kept.give_back())
    engine.dispose()


@pytest.mark.parametrize("ending", ["run", "closed without waiting"])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning")
def test_the_verdict_falls_also_when_the_loop_closes_at_once(tmp_path: Path, numbers: Numbers, ending: str) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    kept, app = Kept(), watched_app()
    tasks = []

    async def work(engine: AsyncEngine, ready: asyncio.Event) -> None:
        await kept.take(engine)
        ready.set()
        await asyncio.sleep(3600)

    @app.get("/spawns")
    async def spawn() -> None:
        ready = asyncio.Event()
        tasks.append(asyncio.create_task(work(engine, ready)))
        await ready.wait()

    async def main() -> None:
        async with visiting(app) as client:
            await client.get("/spawns")
        assert no_leak(numbers)

    if ending == "run":
        asyncio.run(main())  # It cancels what is left.
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    tasks.clear()
    gc.collect()
    assert dbwatch.settle(5.0)
    assert numbers.leaks("request_end") == 1
    assert numbers("dbwatch_route_events_total", event="leak", route="/spawns") == 1
    assert numbers.snapshot().leaked == 1
    asyncio.run(kept.give_back())
    asyncio.run(engine.dispose())


async def test_a_request_that_hands_its_connection_to_a_task_is_blamed_until_the_task_gives_it_back(
    connect_async: Connect, numbers: Numbers
) -> None:
    connections, finish, app = connect_async(), asyncio.Event(), watched_app()
    tasks = []

    async def use(connection: Any) -> None:
        await finish.wait()
        await connections.give_back(connection)

    @app.get("/hands-over")
    async def hand_over() -> None:
        tasks.append(asyncio.create_task(use(await connections.take())))

    async with visiting(app) as client:
        await client.get("/hands-over")
    await settled()
    assert numbers.leaks("request_end") == 1
    finish.set()
    await tasks[0]
    assert numbers("dbwatch_leaks_returned_total") == 1
    assert numbers.snapshot().leaked == 0


async def test_a_connection_of_a_task_that_works_on_does_not_hide_one_that_the_request_has_leaked(
    connect_async: Connect, numbers: Numbers
) -> None:
    connections, finish, kept, app = connect_async(), asyncio.Event(), Kept(), watched_app()
    tasks, ready = [], asyncio.Event()

    async def work() -> None:
        async with connections.taken():
            ready.set()
            await finish.wait()

    @app.get("/spawns")
    async def spawn() -> None:
        tasks.append(asyncio.create_task(work()))
        await ready.wait()
        await kept.take(connections.engine)

    async with visiting(app) as client:
        await client.get("/spawns")
    await soon(lambda: numbers.leaks("request_end") == 1)
    assert not await asyncio.to_thread(dbwatch.settle, 0.05)  # The other verdict waits for the task.
    finish.set()
    await tasks[0]
    await settled()
    assert numbers.leaks("request_end") == 1
    await kept.give_back()


async def test_a_connection_that_others_share_does_not_hide_one_that_the_request_has_leaked(
    connect: Connect, numbers: Numbers
) -> None:
    shared = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    engine, kept, app = connect().engine, Kept(), watched_app()

    @app.get("/leaks")
    async def leak() -> None:
        await kept.take(shared)
        await kept.take(engine)

    async with visiting(app) as client:
        await client.get("/leaks")
    await settled()
    assert numbers.leaks("request_end") == 1
    await kept.give_back()
    shared.dispose()


async def test_no_verdict_is_pending_on_a_connection_that_a_running_task_has_given_back(
    connect_async: Connect, numbers: Numbers
) -> None:
    connections, give_back, finish = connect_async(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with connections.taken():
            await give_back.wait()
        await finish.wait()

    task = await visit(work)
    await soon(lambda: numbers.snapshot().used == 1)
    assert not await asyncio.to_thread(dbwatch.settle, 0.02)
    give_back.set()
    await settled()
    assert not task.done()
    finish.set()
    await task
    assert no_leak(numbers)
