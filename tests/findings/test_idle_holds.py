"""What is said of a hold in which no SQL runs: where the holder was meanwhile, and whether it could have gone on."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi.responses import StreamingResponse
from sqlalchemy import Engine, event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import dbwatch
from dbwatch import judgement
from tests.findings.conftest import StageApp
from tests.findings.guilty import place
from tests.findings.stage import Stage
from tests.servers.waiting import eventually

IDLE = 0.6


def carrier() -> None:
    time.sleep(IDLE)


async def carrier_async() -> None:
    await asyncio.sleep(IDLE)


def in_a_thread(stage: Stage) -> None:
    engine = stage.engine()

    @stage.app.get("/orders")
    def track() -> None:
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            carrier()


def on_the_loop(stage: Stage) -> None:
    engine = stage.async_engine()

    @stage.app.get("/orders")
    async def track() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            await carrier_async()


def blocking_the_loop(stage: Stage) -> None:
    engine = stage.async_engine()

    @stage.app.get("/orders")
    async def track() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            carrier()


def not_given_its_turn(stage: Stage) -> None:
    """The request could go on at once, but somebody else keeps the event loop."""
    engine = stage.async_engine()

    @stage.app.get("/orders")
    async def track() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            asyncio.get_running_loop().call_soon(time.sleep, IDLE)
            await asyncio.sleep(0)


def kept_from_its_turn(stage: Stage) -> None:
    """What the request waits for is there long before the event loop is, which another task blocks."""
    engine = stage.async_engine()

    async def block() -> None:
        carrier()

    @stage.app.get("/orders")
    async def track() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            blocking = asyncio.create_task(block())
            await asyncio.sleep(0.05)
            await blocking


def slow_to_connect(engine: Engine) -> Engine:
    """The engine, whose connections come ``IDLE`` seconds after they were asked for."""

    @event.listens_for(engine, "do_connect", named=True)
    def wait(**_arguments: Any) -> None:
        carrier()

    return engine


def on_two_databases(stage: Stage) -> None:
    """One session with a primary and a replica, which is slow to connect; the primary is idle meanwhile."""
    primary, replica = stage.engine(), slow_to_connect(stage.engine())

    @stage.app.get("/orders")
    def compare() -> None:
        with Session(primary) as session:
            session.execute(text("SELECT 1"))
            session.execute(text("SELECT 2"), bind_arguments={"bind": replica})


def on_two_databases_in_tasks(stage: Stage) -> None:
    """The one connection of the replica is another request's; the primary is idle meanwhile."""
    primary, replica = stage.async_engine(), stage.async_engine(pool_size=1, max_overflow=0)

    async def keep() -> None:
        async with replica.connect() as connection:
            await connection.execute(text("SELECT 1"))
            await asyncio.sleep(IDLE)

    @stage.app.get("/orders")
    async def compare() -> None:
        keeper = asyncio.create_task(keep(), context=stage.outside)
        await asyncio.sleep(0.05)
        async with AsyncSession(primary) as session, AsyncSession(replica) as other:
            await session.execute(text("SELECT 1"))
            await other.execute(text("SELECT 2"))
        await keeper


def after_another_database(stage: Stage) -> None:
    """A connection of the replica was had long before; nothing is asked of it while the primary is idle."""
    primary, replica = stage.engine(), stage.engine()

    @stage.app.get("/orders")
    def track() -> None:
        with Session(primary) as session:
            session.execute(text("SELECT 1"))
            session.execute(text("SELECT 2"), bind_arguments={"bind": replica})
            carrier()


ASYNC = ("sqlite-aiosqlite", "postgres-asyncpg")


@pytest.mark.parametrize(
    ("build", "waits", "database"),
    [
        (in_a_thread, carrier, "sqlite-pysqlite"),
        (in_a_thread, carrier, "postgres-psycopg"),
        *((on_the_loop, carrier_async, database) for database in ASYNC),
        *((blocking_the_loop, carrier, database) for database in ASYNC),
    ],
)
def test_the_line_at_which_the_holder_was_is_named(
    build: Callable[[Stage], None], waits: Callable[[], object], database: str, stage: StageApp
) -> None:
    with stage(database, build, idle_hold_seconds=0.3) as visitor:
        assert visitor.get("/orders").is_success
        (found,) = visitor.findings()
    assert found.finding == "idle_hold"
    lines, first = inspect.getsourcelines(waits)
    assert place(found.lines[-1]) == f"tests/findings/test_idle_holds.py:{first + len(lines) - 1}"
    assert f", seen at {found.lines[-1]};" in found.message


@pytest.mark.parametrize("database", ASYNC)
@pytest.mark.parametrize("build", [not_given_its_turn, kept_from_its_turn])
def test_a_holder_that_is_not_given_its_turn_is_not_accused(
    build: Callable[[Stage], None], database: str, stage: StageApp
) -> None:
    with stage(database, build, idle_hold_seconds=0.3) as visitor:
        assert visitor.get("/orders").is_success
        assert visitor.findings() == ()


@pytest.mark.parametrize(
    ("build", "database"),
    [
        (on_two_databases, "sqlite-pysqlite"),
        (on_two_databases, "postgres-psycopg"),
        *((on_two_databases_in_tasks, database) for database in ASYNC),
    ],
)
def test_a_hold_is_not_accused_while_its_request_waits_for_a_connection_of_another_database(
    build: Callable[[Stage], None], database: str, stage: StageApp
) -> None:
    with stage(database, build, idle_hold_seconds=0.3, slow_checkout_seconds=60.0) as visitor:
        assert visitor.get("/orders").is_success
        assert visitor.findings() == ()


def test_having_had_a_connection_of_another_database_excuses_no_idle_hold(stage: StageApp) -> None:
    with stage("sqlite-pysqlite", after_another_database, idle_hold_seconds=0.3) as visitor:
        assert visitor.get("/orders").is_success
        assert {found.finding for found in visitor.findings()} == {"idle_hold"}


def a_pool_of_one(stage: Stage) -> None:
    engine = stage.async_engine(pool_size=1, max_overflow=0, pool_timeout=0.3)

    @stage.app.get("/orders")
    async def track() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(3 * IDLE)


def test_the_report_of_a_timeout_names_the_line_at_which_a_holder_is(stage: StageApp) -> None:
    with stage("sqlite-aiosqlite", a_pool_of_one, idle_hold_seconds=60.0) as visitor:
        holder = visitor.begin("/orders")
        eventually(lambda: visitor.connections_out() == 1, every=0.01)
        assert visitor.get("/orders").status_code == 500
        assert holder.result().is_success
        (report,) = (found for found in visitor.findings() if found.finding == "checkout_timeout")
    source, first = inspect.getsourcelines(a_pool_of_one)
    line = first + len(source) - 1
    assert f", now at tests/findings/test_idle_holds.py:{line} a_pool_of_one.<locals>.track" in report.message


def a_stream_that_holds(stage: Stage) -> None:
    engine = stage.async_engine()

    @stage.app.get("/orders")
    async def follow() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            async with AsyncSession(engine) as session:
                yield f"{await session.scalar(text('SELECT 1'))}\n"
                await asyncio.sleep(5 * IDLE)
                yield "end\n"

        return StreamingResponse(lines())


def test_a_hold_is_reported_before_the_end_of_a_stream_that_runs_for_long(
    stage: StageApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgement, "LONG_REQUEST_SECONDS", IDLE)
    with stage("sqlite-aiosqlite", a_stream_that_holds, idle_hold_seconds=0.3) as visitor:
        stream = visitor.begin("/orders")

        def found_by_a_look() -> tuple[dbwatch.Finding, ...]:
            dbwatch.snapshot()
            return visitor.findings_so_far()

        (found,) = eventually(found_by_a_look, every=0.05)
        assert not stream.done()
        assert (found.finding, found.route) == ("idle_hold", "/orders")
        assert "after the response had started" in found.message
        assert stream.result(timeout=30.0).is_success
        assert len(visitor.findings()) == 1  # once for each hold
