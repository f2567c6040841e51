"""Trouble on purpose: it begins and ends with its block, and dbwatch sees it as it sees any other."""

import asyncio
from time import perf_counter

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import dbwatch
from dbwatch.testing import exhausted, leak, slow
from tests.servers.databases import AsyncDatabase, SyncDatabase
from tests.servers.ports import free_port

ONE = text("SELECT 1")


def pool(name: str) -> dbwatch.PoolSnapshot:
    (found,) = [snapshot for snapshot in dbwatch.snapshot() if snapshot.name == name]
    return found


async def one(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(ONE)).scalar_one())


def test_an_exhausted_pool_gives_nothing_until_the_block_ends(sync_database: SyncDatabase) -> None:
    engine = sync_database.engine(pool_size=1, max_overflow=2, pool_timeout=30)
    with engine.connect() as mine:  # counts as well
        with exhausted(engine):
            began = perf_counter()
            with pytest.raises(PoolTimeoutError, match=r"timeout 0\.10"):
                engine.connect()
            assert perf_counter() - began < 25
        with engine.connect() as another:
            assert another.execute(ONE).scalar() == mine.execute(ONE).scalar() == 1
    assert engine.pool.timeout() == 30  # type: ignore[attr-defined]


async def test_an_exhausted_pool_of_an_async_engine(async_database: AsyncDatabase) -> None:
    engine = async_database.engine(pool_size=2, max_overflow=0, pool_timeout=30)
    async with exhausted(engine, timeout=0.2):
        with pytest.raises(PoolTimeoutError):
            await one(engine)
    assert await one(engine) == 1


def test_the_pools_own_timeout_can_stay(sync_database: SyncDatabase) -> None:
    engine = sync_database.engine(pool_size=1, max_overflow=0, pool_timeout=0.25)
    with exhausted(engine, timeout=None), pytest.raises(PoolTimeoutError, match=r"timeout 0\.25"):
        engine.connect()


def test_a_leak_is_found_and_comes_back_with_the_end_of_the_block(sync_database: SyncDatabase) -> None:
    engine = sync_database.engine()
    name = sync_database.url[-40:] + " leak"
    dbwatch.watch(engine, name=name)
    with leak(engine):
        (found,) = [finding for finding in dbwatch.findings() if finding.pool == name]
        assert (found.finding, found.method, found.route) == ("leaked_connection", "GET", "(leak)")
        assert (pool(name).leaked, pool(name).used) == (1, 1)
    assert (pool(name).leaked, pool(name).used) == (0, 0)
    assert len([finding for finding in dbwatch.findings() if finding.pool == name]) == 1


async def test_a_leak_of_an_async_engine(async_database: AsyncDatabase) -> None:
    engine = async_database.engine()
    name = async_database.url[-40:] + " leak"
    dbwatch.watch(engine, name=name)
    async with leak(engine):
        assert pool(name).leaked == 1
    assert (pool(name).leaked, pool(name).used) == (0, 0)


def test_a_slow_statement_is_executing_meanwhile(sync_database: SyncDatabase) -> None:
    engine = sync_database.engine()
    name = sync_database.url[-40:] + " slow"
    dbwatch.watch(engine, name=name)
    with engine.connect() as connection, slow(engine, 0.2):
        began = perf_counter()
        assert connection.execute(ONE).scalar() == 1
        assert perf_counter() - began >= 0.2
        (holder,) = pool(name).holders
        assert holder.executing_seconds >= 0.2
    with engine.connect() as connection:
        connection.execute(ONE)
        (holder,) = pool(name).holders
        assert holder.executing_seconds < 0.2


async def test_a_slow_statement_of_an_async_engine_lets_the_loop_go_on(async_database: AsyncDatabase) -> None:
    engine = async_database.engine()
    assert await one(engine) == 1
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(count())
    with slow(engine, 0.3):
        assert await one(engine) == 1
    counting.cancel()
    assert turns > 2


def test_what_cannot_be_done_is_refused_with_a_sentence() -> None:
    engine = create_engine("sqlite://", poolclass=NullPool)
    with pytest.raises(ValueError, match="NullPool without a limit cannot be exhausted"):
        exhausted(engine)
    with pytest.raises(TypeError, match="takes a SQLAlchemy Engine or AsyncEngine, not str"):
        leak("sqlite://")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"from 0 up, not -1"), slow(engine, -1):
        pass
    with pytest.raises(ValueError, match="cannot be exhausted"):
        exhausted(create_engine("sqlite:///shop.db", max_overflow=-1))


async def test_the_wrong_kind_of_with_is_refused_with_the_right_one(async_database: AsyncDatabase) -> None:
    with pytest.raises(TypeError, match="Use `async with` for leak"), leak(async_database.engine()):
        pass
    with pytest.raises(TypeError, match="Use `with` for exhausted"):
        async with exhausted(create_engine("sqlite:///shop.db")):
            pass


@pytest.mark.parametrize("trouble", [exhausted, leak])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_database_that_does_not_answer_ends_the_block_before_it_has_begun(trouble: type[exhausted | leak]) -> None:
    engine = create_engine(f"postgresql+psycopg://127.0.0.1:{free_port()}/shop")
    with pytest.raises((OperationalError, RuntimeError)) as refused, trouble(engine):
        pytest.fail("nothing was taken")
    if trouble is leak:
        assert "No connection could be taken to be leaked" in str(refused.value)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("trouble", [exhausted, leak])
async def test_an_async_database_that_does_not_answer_ends_the_block_before_it_has_begun(
    trouble: type[exhausted | leak],
) -> None:
    engine = create_async_engine(f"postgresql+asyncpg://127.0.0.1:{free_port()}/shop")
    with pytest.raises(OSError):  # noqa: PT011  which of them depends on the system
        async with trouble(engine):
            pytest.fail("nothing was taken")
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_many_rows_at_once_are_slow_as_one_statement(sync_database: SyncDatabase) -> None:
    engine = sync_database.engine()
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE many (number INTEGER)"))
        with slow(engine, 0.2):
            began = perf_counter()
            connection.execute(text("INSERT INTO many VALUES (:number)"), [{"number": 1}, {"number": 2}])
            assert perf_counter() - began >= 0.2
        assert connection.execute(text("SELECT count(*) FROM many")).scalar() == 2
