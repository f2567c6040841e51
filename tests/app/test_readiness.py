"""The readiness probe tells a stuck pool from a busy one, at once and without a connection of its own."""

import asyncio
import json
import math
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, NullPool, QueuePool, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import dbwatch
from dbwatch import DBWatchMiddleware, guard
from dbwatch.pools import POOLS
from tests.app.calls import call
from tests.app.scrape import counted
from tests.bookkeeping.test_faults import failing_first, instead
from tests.servers.waiting import eventually

TIMEOUT = 0.3


@pytest.fixture(autouse=True)
def no_engines_of_other_tests() -> None:
    POOLS._engines.clear()
    POOLS._pools.clear()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Engine]:
    """Two connections, and a short patience."""
    engine = create_engine(
        f"sqlite:///{tmp_path / 'small.db'}", poolclass=QueuePool, pool_size=1, max_overflow=1, pool_timeout=TIMEOUT
    )
    dbwatch.watch(engine, name="small")
    yield engine
    engine.dispose()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def wait_in_vain(engine: Engine) -> None:
    """Ask until the engine has a connection: each time the pool gives up, ask again."""
    for _ in range(200):
        try:
            engine.connect().close()
        except PoolTimeoutError:
            continue
        return


def only_pool() -> dbwatch.PoolReadiness:
    [pool] = dbwatch.readiness().pools
    return pool


def stuck() -> dbwatch.PoolReadiness:
    """The only pool, which is not ready; between two attempts nobody waits, and it is."""
    pool = only_pool()
    assert not pool.ready
    return pool


def test_an_idle_pool_is_ready(small: Engine) -> None:
    assert dbwatch.readiness().ready
    assert only_pool().reason == "0 of 2 connections are out."


def test_a_pool_that_is_all_out_is_ready_as_long_as_nobody_waits(small: Engine) -> None:
    with small.connect(), small.connect():
        sleep(TIMEOUT * 1.5)
        found = dbwatch.readiness()
    assert found.ready
    assert (found.pools[0].used, found.pools[0].limit) == (2, 2)


def test_a_pool_that_is_all_out_with_somebody_waiting_for_longer_than_its_timeout_is_not(
    small: Engine, threads: ThreadPoolExecutor
) -> None:
    with small.connect(), small.connect():
        waiter = threads.submit(wait_in_vain, small)
        eventually(lambda: only_pool().waiters == 1)
        found = eventually(stuck, every=0.005)
        assert found.unmoved_seconds > TIMEOUT
        assert found.reason.startswith("All 2 connections are out, 1 waiting, and none has come back for 0.")
        assert found.reason.endswith(f"(pool_timeout {TIMEOUT:g} s).")
    waiter.result()
    assert dbwatch.readiness().ready


def test_a_busy_pool_whose_connections_come_and_go_is_ready_all_the_time(
    small: Engine, threads: ThreadPoolExecutor
) -> None:
    ends = perf_counter() + TIMEOUT * 4

    def work() -> None:
        while perf_counter() < ends:
            try:
                with small.connect() as connection:
                    connection.execute(text("SELECT 1"))
                    sleep(0.02)
            except PoolTimeoutError:  # on a machine that stands still
                continue

    working = [threads.submit(work) for _ in range(6)]
    seen = []
    while perf_counter() < ends:
        pool = only_pool()
        # What stands still for long is the machine.
        if pool.unmoved_seconds < TIMEOUT:
            seen.append(pool)
        sleep(0.005)
    for each in working:
        each.result()
    assert all(pool.ready for pool in seen)
    assert any(pool.used == 2 and pool.waiters for pool in seen), "the pool must have been busy"


def test_a_pool_that_waits_for_ever_is_judged_by_the_usual_timeout(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(
        f"sqlite:///{tmp_path / 'patient.db'}", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=None
    )
    dbwatch.watch(engine, name="patient")
    with engine.connect():
        waiter = threads.submit(wait_in_vain, engine)
        eventually(lambda: only_pool().waiters == 1)
        assert dbwatch.readiness().ready
        monkeypatch.setattr(sys.modules["dbwatch.readiness"], "DEFAULT_TIMEOUT_SECONDS", 0.05)
        eventually(lambda: not dbwatch.readiness().ready)
    waiter.result()
    engine.dispose()


def test_an_unlimited_pool_is_always_ready_and_its_limit_is_null_in_json() -> None:
    engine = create_engine("sqlite://", poolclass=NullPool)
    dbwatch.watch(engine, name="unlimited")
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(engine.connect())
        found = dbwatch.readiness()
    assert found.ready
    assert math.isinf(found.pools[0].limit)
    assert found.as_json()["pools"][0]["limit"] is None
    assert found.as_json()["pools"][0]["reason"] == "10 are out, no limit."


def app(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(DBWatchMiddleware, readiness_path="/readyz", **options)
    return app


async def test_the_route_answers_fast_while_the_pool_is_exhausted(small: Engine, threads: ThreadPoolExecutor) -> None:
    watched = app()
    assert (await call(watched, "/readyz")).status == 200
    with small.connect(), small.connect():
        waiting = [threads.submit(wait_in_vain, small) for _ in range(5)]
        await asyncio.to_thread(eventually, lambda: not dbwatch.readiness().ready)
        fastest, said = math.inf, {}
        for _ in range(20):
            asked = perf_counter()
            answer = await call(watched, "/readyz")
            fastest = min(fastest, perf_counter() - asked)
            if answer.status == 503:  # in between, every waiter may just be asking anew
                said = json.loads(answer.text)
        assert fastest < 0.01
        assert said["ready"] is False
        assert said["pools"][0]["pool"] == "small"
        assert said["pools"][0]["used"] == said["pools"][0]["limit"] == 2
        assert "none has come back" in said["pools"][0]["reason"]
    for each in waiting:
        each.result()
    answer = await call(watched, "/readyz")
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert json.loads(answer.text)["ready"] is True


async def test_head_is_answered_without_a_body_and_post_is_the_apps(small: Engine) -> None:
    watched = app()
    answer = await call(watched, "/readyz", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert (await call(watched, "/readyz", "POST")).status == 404


async def test_behind_a_root_path_the_route_is_found(small: Engine) -> None:
    assert (await call(app(), "/api/readyz", root_path="/api")).status == 200


async def test_without_the_option_the_path_is_the_apps(small: Engine) -> None:
    plain = FastAPI()
    plain.add_middleware(DBWatchMiddleware)
    assert (await call(plain, "/readyz")).status == 404


async def test_a_probe_is_no_request_of_the_app(small: Engine) -> None:
    await call(app(), "/readyz")
    assert counted().routes() == {}


async def test_an_error_of_ours_takes_nobody_out_of_service(small: Engine) -> None:
    assert "middleware.readiness" in guard.SITES
    with instead("middleware.readiness", failing_first):
        answer = await call(app(), "/readyz")
    assert answer.status == 200
    assert json.loads(answer.text) == {"ready": True, "pools": []}
