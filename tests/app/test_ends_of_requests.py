import asyncio
import contextvars
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Receive, Scope, Send

import dbwatch
from dbwatch import DBWatchMiddleware
from dbwatch.ledger import LEDGER
from tests.app.calls import call
from tests.app.scrape import counted


async def test_a_task_that_leaks_later_names_the_route_that_spawned_it_and_touched_no_pool(
    thread_engine: Engine,
) -> None:
    app = FastAPI()
    spawned: list[asyncio.Task[None]] = []
    ended = asyncio.Event()

    async def leak() -> None:
        await ended.wait()
        thread_engine.connect()

    @app.get("/orders/{number}")
    async def endpoint(number: int) -> None:
        spawned.append(asyncio.create_task(leak()))

    app.add_middleware(DBWatchMiddleware)
    assert (await call(app, "/orders/7")).status == 200
    ended.set()
    await spawned[0]
    gc.collect()
    [finding] = [found for found in dbwatch.findings() if found.pool == "back office"]
    assert (finding.finding, finding.method, finding.route) == ("leaked_connection", "GET", "/orders/{number}")


async def test_a_request_whose_coroutine_is_destroyed_in_another_context_ends_without_an_error() -> None:
    told: list[str] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def unused() -> None:
        raise AssertionError

    watched = DBWatchMiddleware(app, slow_request_seconds=1e-9)
    scope = {"type": "http", "method": "GET", "path": "/"}
    running = watched(scope, unused, unused)  # type: ignore[arg-type]
    contextvars.copy_context().run(running.send, None)
    LEDGER.fold()
    LEDGER.after_fold(told.append, "told")
    for _ in range(40):
        LEDGER.post(lambda _fact: None, None)
    running.close()
    assert told == []  # nothing is folded, logged or told where a garbage collection may be under way
    dbwatch.flush()
    assert told == ["told"]
    assert counted().sum("dbwatch_internal_errors_total") == 0


async def test_the_metrics_are_served_while_the_loops_threads_all_wait_for_something(engine: AsyncEngine) -> None:
    app = FastAPI()
    app.add_middleware(DBWatchMiddleware)
    release = threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as busy:
        loop.set_default_executor(busy)
        waiting = loop.run_in_executor(None, release.wait)
        try:
            page = await asyncio.wait_for(call(app, "/metrics"), 30)
        finally:
            release.set()
        await waiting
    assert page.status == 200
    assert 'dbwatch_pool_size{pool="shop"}' in page.text
