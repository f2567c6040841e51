"""The figures that findings give, in words and as numbers: they are what somebody changes a pool by."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import pytest
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.core.numbers import Numbers
from tests.findings.conftest import StageApp
from tests.findings.stage import Stage

SQLITE = "sqlite-pysqlite"


def nested(connections: int, limit: int, times: int = 1) -> Callable[[Stage], None]:
    """An endpoint that holds so many connections at once, so many times after each other."""

    def build(stage: Stage) -> None:
        engine = stage.engine(pool_size=limit, max_overflow=0)

        @stage.app.get("/orders")
        def read() -> None:
            for _ in range(times):
                with ExitStack() as held:
                    for _ in range(connections):
                        held.enter_context(engine.connect())

    return build


@pytest.mark.parametrize(
    ("connections", "limit", "stuck", "safe"), [(2, 5, 5, 4), (2, 2, 2, 1), (3, 5, 3, 2), (3, 6, 3, 2), (4, 5, 2, 1)]
)
def test_a_second_connection_says_how_many_requests_can_wait_for_each_other(
    connections: int, limit: int, stuck: int, safe: int, stage: StageApp
) -> None:
    with stage(SQLITE, nested(connections, limit)) as visitor:
        visitor.get("/orders")
        (found,) = visitor.findings()
    # That many requests can have taken all but their last; one fewer leaves a connection for somebody.
    assert stuck * (connections - 1) >= limit > safe * (connections - 1)
    assert found.finding == "nested_checkout"
    place, _, name = found.lines[0].partition(" ")
    assert found.message.startswith(
        f"{connections} connections of one pool are held at once, the first at {name} line {place.rpartition(':')[2]}. "
        f"With a limit of {limit}, {stuck} such requests at once can wait for each other; {safe} cannot. "
        f"N requests need a limit of N x {connections - 1} + 1."
    )
    assert found.numbers == {
        "connections": connections,
        "limit": limit,
        "safe_requests": safe,
        "count": connections - 1,
    }


@pytest.mark.parametrize("times", [1, 2, 5])
def test_what_happens_again_at_a_line_is_one_finding_with_its_number(times: int, stage: StageApp) -> None:
    with stage(SQLITE, nested(2, 5, times)) as visitor:
        visitor.get("/orders")
        (found,) = visitor.findings()
    assert found.numbers["count"] == times
    assert found.message.endswith(f"({times} times in this request)" if times > 1 else "N x 1 + 1.")


def a_pool_of_one(stage: Stage) -> None:
    engine = stage.engine(pool_size=1, max_overflow=0)

    @stage.app.get("/orders")
    def read() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            time.sleep(0.4)


def test_a_slow_checkout_says_what_it_waited_for(stage: StageApp, numbers: Numbers) -> None:
    with stage(SQLITE, a_pool_of_one, slow_checkout_seconds=0.2, idle_hold_seconds=60.0) as visitor:
        began = time.monotonic()
        visitor.many("/orders", 2, clients=2)
        lasted = time.monotonic() - began
        (found,) = visitor.findings()
    assert found.finding == "slow_checkout"
    taken, waited = found.numbers["checkout_seconds"], found.numbers["wait_seconds"]
    assert 0.2 <= waited <= taken <= lasted
    assert (found.numbers["connect_seconds"], found.numbers["ping_seconds"]) == (0.0, 0.0)
    assert f"The checkout took {taken:.2f} s ({waited:.2f} s wait); the threshold is 0.2 s." in found.message
    assert taken <= numbers("dbwatch_checkout_seconds_sum") <= 2 * lasted
    assert waited <= numbers("dbwatch_request_wait_seconds_total", route="/orders") <= lasted
    assert numbers("dbwatch_event_loop_blocked_seconds_total") == 0


def idle(stage: Stage) -> None:
    engine = stage.async_engine()

    @stage.app.get("/orders")
    async def read() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(0.4)

    @stage.app.get("/lines")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            async with AsyncSession(engine) as session:
                await session.execute(text("SELECT 1"))
                yield "first\n"
                await asyncio.sleep(0.4)
                yield "last\n"

        return StreamingResponse(lines())


@pytest.mark.parametrize("path", ["/orders", "/lines"])
def test_an_idle_hold_says_how_long_it_was_idle_and_how_long_after_the_response_had_started(
    path: str, stage: StageApp
) -> None:
    with stage("sqlite-aiosqlite", idle, idle_hold_seconds=0.2) as visitor:
        began = time.monotonic()
        visitor.get(path)
        lasted = time.monotonic() - began
        (found,) = visitor.findings()
    assert found.finding == "idle_hold"
    held, spare, executing, after = (
        found.numbers[name] for name in ("held_seconds", "idle_seconds", "executing_seconds", "after_response_seconds")
    )
    assert 0.4 <= held <= lasted
    assert spare == pytest.approx(held - executing)
    assert 0 < executing < held
    if path == "/orders":
        assert after == 0.0
        assert "after the response had started" not in found.message
    else:
        assert 0.3 <= after <= held
        assert f"{after:.2f} s of it after the response had started" in found.message
