"""``async for session in get_session(): ... return``: the loop closes the generator, a moment after the request."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

import dbwatch
from tests.core.conftest import Connect
from tests.core.connections import soon
from tests.core.leaking import settled, visiting, watched_app
from tests.core.numbers import Numbers

Get = Callable[[], AsyncIterator[Any]]
Endpoint = Callable[[Get], Awaitable[None]]


def asynchronous(engine: Engine | AsyncEngine) -> AsyncEngine:
    assert isinstance(engine, AsyncEngine)
    return engine


def from_a_session(engine: AsyncEngine) -> Get:
    async def get() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    return get


def from_a_connection(engine: AsyncEngine) -> Get:
    async def get() -> AsyncIterator[Any]:
        async with engine.connect() as connection:
            yield connection

    return get


def from_a_context_manager(engine: AsyncEngine) -> Get:
    @asynccontextmanager
    async def manager() -> AsyncIterator[AsyncSession]:
        session = AsyncSession(engine)
        try:
            yield session
        finally:
            await session.close()

    async def get() -> AsyncIterator[AsyncSession]:
        async with manager() as session:
            yield session

    return get


def that_take_their_time(engine: AsyncEngine) -> Get:
    async def get() -> AsyncIterator[AsyncSession]:
        session = AsyncSession(engine)
        try:
            yield session
        finally:
            await asyncio.sleep(0.05)
            await session.close()

    return get


async def left_by_break(get: Get) -> None:
    async for session in get():
        await session.execute(text("SELECT 1"))
        break


async def left_by_return(get: Get) -> None:
    async for session in get():
        await session.execute(text("SELECT 1"))
        return


async def left_by_an_exception(get: Get) -> None:
    async for session in get():
        await session.execute(text("SELECT 1"))
        raise ValueError


async def left_by_a_helper(get: Get) -> None:
    async def helper() -> Any:
        async for session in get():
            return (await session.execute(text("SELECT 1"))).scalar()
        return None

    await helper()
    await asyncio.sleep(0)


async def leave_behind(get: Get) -> None:
    """One request that leaves a generator, and whatever the loop does about it."""
    app = watched_app()

    @app.get("/leaves")
    async def leave() -> None:
        await left_by_return(get)

    async with visiting(app) as client:
        await client.get("/leaves")
    await settled()


GENERATORS = [from_a_session, from_a_connection, from_a_context_manager, that_take_their_time]
ENDPOINTS = [left_by_break, left_by_return, left_by_an_exception, left_by_a_helper]


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_generator_that_an_endpoint_has_left_is_no_leak(
    endpoint: Endpoint, generator: Callable[[AsyncEngine], Get], connect_async: Connect, numbers: Numbers
) -> None:
    get, app = generator(asynchronous(connect_async(pool_size=2, max_overflow=0).engine)), watched_app()

    @app.get("/leaves")
    async def leave() -> None:
        await endpoint(get)

    async with visiting(app) as client:
        await asyncio.gather(*[client.get("/leaves") for _ in range(6)])
    await soon(lambda: numbers.snapshot().used == 0)
    await settled()
    assert numbers("dbwatch_leaks_total") == 0
    assert numbers("dbwatch_route_events_total", event="leak") == 0
    assert numbers("dbwatch_request_checkouts_total", route="/leaves") == 6


@pytest.mark.parametrize("generator", GENERATORS)
async def test_a_generator_that_the_app_keeps_is_a_leak(
    generator: Callable[[AsyncEngine], Get], connect_async: Connect, numbers: Numbers
) -> None:
    get, app, kept = generator(asynchronous(connect_async().engine)), watched_app(), []

    @app.get("/keeps")
    async def keep() -> None:
        kept.append(get())
        session = await anext(kept[-1])
        await session.execute(text("SELECT 1"))

    async with visiting(app) as client:
        await client.get("/keeps")
    await settled()
    assert numbers.leaks("request_end") == 1
    assert numbers("dbwatch_route_events_total", event="leak", route="/keeps") == 1
    for generated in kept:
        await generated.aclose()  # type: ignore[attr-defined]
    assert numbers("dbwatch_leaks_returned_total") == 1


async def test_a_generator_that_does_not_close_what_it_yields_is_a_leak(
    connect_async: Connect, numbers: Numbers
) -> None:
    engine, kept = asynchronous(connect_async().engine), list[AsyncSession]()

    async def get() -> AsyncIterator[AsyncSession]:
        kept.append(AsyncSession(engine))
        yield kept[-1]

    await leave_behind(get)
    assert numbers.leaks("request_end") == 1
    await kept[0].close()
    assert numbers("dbwatch_leaks_returned_total") == 1


async def test_a_generator_that_takes_its_time_and_does_not_close_what_it_yields_is_a_leak(
    connect_async: Connect, numbers: Numbers
) -> None:
    engine, kept = asynchronous(connect_async().engine), list[AsyncSession]()

    async def get() -> AsyncIterator[AsyncSession]:
        kept.append(AsyncSession(engine))
        try:
            yield kept[-1]
        finally:
            await asyncio.sleep(0.05)

    await leave_behind(get)
    assert numbers.leaks("request_end") == 1
    await kept[0].close()


@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning")
def test_the_verdict_falls_also_when_the_loop_is_closed_before_it_has_turned(tmp_path: Path, numbers: Numbers) -> None:
    engine, app, kept = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"), watched_app(), []

    @app.get("/keeps")
    async def keep() -> None:
        kept.append(await engine.connect())

    async def main() -> None:
        async with visiting(app) as client:
            await client.get("/keeps")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert dbwatch.settle(5.0)
    assert numbers.leaks("request_end") == 1
    asyncio.run(kept[0].close())
    asyncio.run(engine.dispose())
