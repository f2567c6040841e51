"""What ran during a hold: executing, idle, or unknown."""

import asyncio
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from demo_app.postgres import EmbeddedPostgres
from tests.core.conftest import Connect
from tests.core.numbers import Numbers

PAUSE = 0.15
POSTGRES_DRIVERS = ["psycopg", "psycopg_async", "asyncpg"]

SLOW_COMMIT = """
CREATE TABLE slow_commit (id int);
CREATE FUNCTION sleep_at_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.15); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER sleeps AFTER INSERT ON slow_commit DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION sleep_at_commit();
"""


@pytest.fixture(params=POSTGRES_DRIVERS)
async def connection(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Any:
    """A connection to PostgreSQL by every driver, warmed up: the numbers of the test begin with its hold."""
    if request.param == "psycopg":
        engine = create_engine(postgres.url())
        with engine.connect() as sync_connection:
            yield Both(sync_connection)
        engine.dispose()
    else:
        async_engine = create_async_engine(postgres.url(request.param))
        async with async_engine.connect() as async_connection:
            yield Both(async_connection)
        await async_engine.dispose()


class Both:
    """A connection of either kind, called from a coroutine."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.taken_at = perf_counter()

    async def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        answer = getattr(self.connection, method)(*arguments, **options)
        return await answer if isinstance(self.connection, AsyncConnection) else answer


async def test_a_statement_executes_and_the_time_between_statements_is_idle(connect: Connect, numbers: Numbers) -> None:
    connections = connect()
    async with connections.taken():  # The first connection also initialises the dialect.
        pass
    before = {activity: numbers.activity(activity) for activity in ("executing", "idle", "unknown")}
    assert before["idle"] == 0
    started = perf_counter()
    async with connections.taken() as (connection,):
        await connections.execute(connection, "SELECT 1")
        await asyncio.sleep(PAUSE)
        await connections.execute(connection, "SELECT 2")
    total = perf_counter() - started
    idle = numbers.activity("idle")
    assert PAUSE <= idle <= total
    assert 0 < numbers.activity("executing") - before["executing"] <= total - idle
    assert numbers.activity("unknown") == before["unknown"]


async def test_a_statement_sent_without_parameters_is_executing_as_well(connection: Both, numbers: Numbers) -> None:
    as_it_is = {"no_parameters": True}
    await connection("exec_driver_sql", f"SELECT pg_sleep({PAUSE})", execution_options=as_it_is)
    await connection("close")
    assert numbers.activity("executing") >= PAUSE


async def test_a_statement_sent_without_parameters_that_fails_is_over(connection: Both, numbers: Numbers) -> None:
    with pytest.raises(DBAPIError, match="division by zero"):
        await connection("exec_driver_sql", "SELECT 1/0", execution_options={"no_parameters": True})
    await asyncio.sleep(PAUSE)
    await connection("close")
    assert numbers.activity("executing") < PAUSE <= numbers.activity("idle")


async def test_a_slow_statement_is_executing_for_as_long_as_it_runs(connection: Both, numbers: Numbers) -> None:
    await connection("execute", text(f"SELECT pg_sleep({PAUSE})"))
    await connection("close")
    assert numbers.activity("executing") >= PAUSE
    assert numbers.activity("idle") <= perf_counter() - connection.taken_at - PAUSE


async def test_a_slow_commit_is_executing(connection: Both, numbers: Numbers) -> None:
    for statement in ("DROP TABLE IF EXISTS slow_commit", "DROP FUNCTION IF EXISTS sleep_at_commit"):
        await connection("exec_driver_sql", statement)
    head, function, rest = SLOW_COMMIT.partition("CREATE FUNCTION")
    body, end, trigger = rest.partition("$$;\n")
    for statement in (head, function + body + end, trigger):
        await connection("exec_driver_sql", statement.strip().removesuffix(";"))
    await connection("exec_driver_sql", "INSERT INTO slow_commit VALUES (1)")
    await connection("commit")
    await connection("close")
    assert numbers.activity("executing") >= PAUSE
    assert numbers.activity("idle") <= perf_counter() - connection.taken_at - PAUSE


async def test_a_failing_statement_is_executing_until_it_fails(connection: Both, numbers: Numbers) -> None:
    with pytest.raises(Exception, match="division by zero"):
        await connection("exec_driver_sql", f"SELECT 1/0 FROM pg_sleep({PAUSE})")
    await connection("close")
    assert numbers.activity("executing") >= 0
    snapshot = numbers.snapshot()
    assert snapshot.used == 0


async def test_a_cancelled_statement_is_executing_until_it_is_cancelled(
    postgres: EmbeddedPostgres, numbers: Numbers
) -> None:
    engine = create_async_engine(postgres.url("asyncpg"))
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        sleeping = asyncio.create_task(connection.execute(text("SELECT pg_sleep(20)")))
        await asyncio.sleep(PAUSE)
        sleeping.cancel()
        await asyncio.wait([sleeping])
        assert sleeping.cancelled()
    assert numbers.activity("executing") >= PAUSE * 0.9
    assert numbers.snapshot().used == 0
    await engine.dispose()


async def test_a_hold_without_a_statement_is_neither_idle_nor_executing(connection: Both, numbers: Numbers) -> None:
    await asyncio.sleep(0.02)
    await connection("close")
    assert numbers.activity("unknown") >= 0.02
    assert numbers.activity("idle") == 0


async def test_rows_that_are_streamed_are_not_idle(connection: Both, numbers: Numbers) -> None:
    statement = text("SELECT generate_series(1, 2000)")
    if isinstance(connection.connection, AsyncConnection):
        result = await connection.connection.stream(statement)
        rows = 0
        async for _ in result:
            rows += 1
            if rows % 1000 == 0:
                await asyncio.sleep(0.02)
    else:
        streamed = connection.connection.execution_options(stream_results=True).execute(statement)
        rows = 0
        for _ in streamed:
            rows += 1
            if rows % 1000 == 0:
                await asyncio.sleep(0.02)
    assert rows == 2000
    await connection("close")
    assert numbers.activity("unknown") >= 0.04
    assert numbers.activity("idle") == 0


async def test_rows_that_are_fetched_in_portions_are_not_idle(connection: Both, numbers: Numbers) -> None:
    options = {"yield_per": 100}
    if isinstance(connection.connection, AsyncConnection):
        result = await connection.connection.stream(text("SELECT generate_series(1, 500)"), execution_options=options)
        assert len([row async for row in result]) == 500
    else:
        fetched = connection.connection.execute(text("SELECT generate_series(1, 500)"), execution_options=options)
        assert len(list(fetched)) == 500
    await connection("close")
    assert numbers.activity("idle") == 0


def test_a_copy_through_the_drivers_own_cursor_is_unknown(postgres: EmbeddedPostgres, numbers: Numbers) -> None:
    engine = create_engine(postgres.url())
    connection = engine.raw_connection()
    driver: Any = connection.driver_connection
    with driver.cursor() as cursor, cursor.copy("COPY (SELECT generate_series(1, 10)) TO STDOUT") as copy:
        assert len(list(copy.rows())) == 10
    connection.close()
    engine.dispose()
    assert numbers.activity("idle") == 0
    assert numbers.activity("unknown") > 0
    assert numbers("dbwatch_hold_seconds_count") == 1


async def test_a_query_on_asyncpgs_own_connection_is_unknown(postgres: EmbeddedPostgres, numbers: Numbers) -> None:
    engine = create_async_engine(postgres.url("asyncpg"))
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        assert await driver.fetchval("SELECT 7") == 7
    await engine.dispose()
    assert numbers.activity("idle") == 0
    assert numbers.activity("unknown") > 0


async def test_a_hold_is_as_long_as_the_connection_was_out(connect: Connect, numbers: Numbers) -> None:
    connections = connect()
    before = perf_counter()
    async with connections.taken():
        taken = perf_counter()
        await asyncio.sleep(PAUSE)
        at_least = perf_counter() - taken
    at_most = perf_counter() - before
    assert numbers("dbwatch_hold_seconds_count") == 1
    assert at_least <= numbers("dbwatch_hold_seconds_sum") <= at_most
    parts = sum(numbers.activity(activity) for activity in ("executing", "idle", "unknown"))
    assert parts == pytest.approx(numbers("dbwatch_hold_seconds_sum"))
