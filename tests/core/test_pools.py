"""Every kind of pool, and engines however and whenever they are made."""

import gc
import math
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    Engine,
    NullPool,
    Pool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
    create_engine,
    create_pool_from_url,
    text,
)

import dbwatch
from dbwatch.pools import POOLS
from demo_app.postgres import EmbeddedPostgres
from tests.core.conftest import Connect
from tests.core.leaking import visiting, watched_app
from tests.core.numbers import Numbers


class OurQueuePool(QueuePool):
    """As an app may have one, overriding what it likes."""

    def _do_get(self) -> Any:
        return super()._do_get()


class OurAsyncPool(AsyncAdaptedQueuePool):
    def connect(self) -> Any:
        return super().connect()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}"


#: The connection that comes back to a pool disposed of stays open until that pool is collected.
DROPPED = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

POOL_CLASSES: list[type[Pool]] = [QueuePool, NullPool, StaticPool, SingletonThreadPool, AssertionPool, OurQueuePool]


@pytest.mark.parametrize("poolclass", POOL_CLASSES)
def test_checkouts_and_holds_of_every_kind_of_pool_are_counted(
    url: str, poolclass: type[Pool], numbers: Numbers
) -> None:
    engine = create_engine(url, poolclass=poolclass)
    for _ in range(3):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            assert numbers.snapshot().used == 1
    snapshot = numbers.snapshot()
    assert (snapshot.used, snapshot.waiters, snapshot.leaked, snapshot.overflow) == (0, 0, 0, 0)
    assert snapshot.idle == (0 if poolclass is NullPool else 1)
    assert snapshot.attributes["pool_class"] == poolclass.__name__
    assert numbers.checkouts("ok") == numbers("dbwatch_hold_seconds_count") == 3
    assert numbers("dbwatch_connections_opened_total") == (3 if poolclass is NullPool else 1)
    assert numbers.phase("wait")[0] == 0
    engine.dispose()


@pytest.mark.parametrize("poolclass", [AsyncAdaptedQueuePool, NullPool, StaticPool, AssertionPool, OurAsyncPool])
async def test_checkouts_and_holds_of_every_kind_of_async_pool_are_counted(
    connect_async: Connect, poolclass: type[Pool], numbers: Numbers
) -> None:
    connections = connect_async(poolclass=poolclass)
    for _ in range(3):
        async with connections.taken() as (connection,):
            await connections.execute(connection, "SELECT 1")
            assert numbers.snapshot().used == 1
    assert numbers.snapshot().used == 0
    assert numbers.snapshot().idle == (0 if poolclass is NullPool else 1)
    assert numbers.checkouts("ok") == numbers("dbwatch_hold_seconds_count") == 3


@pytest.mark.parametrize(
    ("poolclass", "size", "limit"),
    [(NullPool, 0, math.inf), (StaticPool, 1, 1), (AssertionPool, 1, 1), (SingletonThreadPool, 5, math.inf)],
)
def test_pools_without_a_queue_have_the_size_that_their_nature_gives(
    url: str, poolclass: type[Pool], size: int, limit: float, numbers: Numbers
) -> None:
    engine = create_engine(url, poolclass=poolclass)
    assert (numbers.snapshot().size, numbers.snapshot().limit) == (size, limit)
    assert numbers("dbwatch_pool_timeout_seconds") == 0
    engine.dispose()


def test_checkouts_that_share_the_one_connection_of_a_static_pool_are_all_counted_and_all_returned(
    url: str, numbers: Numbers
) -> None:
    engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    first, second, third = engine.connect(), engine.connect(), engine.connect()
    assert numbers.snapshot().used == 3
    second.close()
    assert numbers.snapshot().used == 2
    first.close()
    third.close()
    assert numbers.snapshot().used == 0
    assert numbers.checkouts("ok") == numbers("dbwatch_hold_seconds_count") == 3
    assert numbers("dbwatch_leaks_total") == 0
    engine.dispose()


def test_a_second_checkout_in_one_thread_of_a_pool_per_thread_is_no_second_hold(url: str, numbers: Numbers) -> None:
    engine = create_engine(url, poolclass=SingletonThreadPool)
    with engine.connect(), engine.connect():
        assert numbers.snapshot().used == 1
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: engine.connect().close()).result()
    assert numbers.snapshot().used == 0
    assert numbers.checkouts("ok") == 3
    assert numbers("dbwatch_leaks_total") == 0
    engine.dispose()


def test_an_assertion_pools_refusal_is_an_error_but_no_connect_error(url: str, numbers: Numbers) -> None:
    engine = create_engine(url, poolclass=AssertionPool)
    with engine.connect():
        with pytest.raises(AssertionError):
            engine.connect()
        assert numbers.snapshot().used == 1
    assert numbers.checkouts("error") == 1
    assert numbers("dbwatch_connect_errors_total") == 0
    assert numbers.snapshot().used == 0
    engine.dispose()


def test_a_pool_made_without_an_engine_is_watched(url: str, numbers: Numbers) -> None:
    pool = create_pool_from_url(url)
    proxy = pool.connect()
    assert numbers.snapshot().used == 1
    proxy.close()
    assert numbers.checkouts("ok") == 1
    pool.dispose()


def test_an_option_engine_shares_the_pool_and_the_name_of_its_engine(url: str, numbers: Numbers) -> None:
    engine = create_engine(url)
    dbwatch.watch(engine, "primary")
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect(), engine.connect():
        assert numbers.snapshot().used == 2
    assert numbers.labels("dbwatch_checkout_seconds_count", "pool") >= {"primary"}
    assert numbers("dbwatch_checkout_seconds_count", pool="primary", outcome="ok") == 2
    engine.dispose()


def test_engines_made_before_dbwatch_was_installed_are_found(tmp_path: Path) -> None:
    program = f"""
        import asyncio
        from sqlalchemy import create_engine, text
        from sqlalchemy.ext.asyncio import create_async_engine

        sync = create_engine("sqlite:///{tmp_path}/a.db", pool_size=3)
        out, back = sync.connect(), sync.connect()
        back.close()
        asynchronous = create_async_engine("sqlite+aiosqlite:///{tmp_path}/b.db")

        import dbwatch
        dbwatch.install()
        first, second = dbwatch.snapshot()
        assert first.name.startswith("sqlite+aiosqlite:///"), first
        assert second.size == 3, second
        out.execute(text("SELECT 1"))
        out.close()  # Taken before anybody watched: its return must not make a mess of the numbers.
        assert (dbwatch.snapshot()[1].used, dbwatch.snapshot()[1].idle) == (0, 2), dbwatch.snapshot()

        async def use():
            async with asynchronous.connect() as connection:
                await connection.execute(text("SELECT 1"))
                assert dbwatch.snapshot()[0].used == 1
            await asynchronous.dispose()

        asyncio.run(use())
        with sync.connect() as one, sync.connect() as two:
            snapshot = dbwatch.snapshot()[1]
            assert (snapshot.used, snapshot.idle) == (2, 0), snapshot
        snapshot = dbwatch.snapshot()[1]
        assert (snapshot.used, snapshot.idle) == (0, 2), snapshot
        late = create_engine("sqlite:///{tmp_path}/c.db")
        assert len(dbwatch.snapshot()) == 3
        sync.dispose()
        from dbwatch.ledger import LEDGER
        assert not LEDGER.accumulators.counters["dbwatch_internal_errors_total"]
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr


@DROPPED
async def test_after_dispose_with_a_connection_out_used_sums_both_pools_and_idle_is_the_current_ones(
    connect: Connect, numbers: Numbers
) -> None:
    connections = connect(pool_size=2, max_overflow=1)
    old = await connections.take()
    async with connections.taken():
        pass
    assert (numbers.snapshot().used, numbers.snapshot().idle) == (1, 1)
    await connections.dispose()
    async with connections.taken():
        pass
    async with connections.taken():
        snapshot = numbers.snapshot()
        assert (snapshot.used, snapshot.idle, snapshot.size, snapshot.limit) == (2, 0, 2, 3)
    assert (numbers.snapshot().used, numbers.snapshot().idle) == (1, 1)
    await connections.give_back(old)
    assert (numbers.snapshot().used, numbers.snapshot().idle) == (0, 1)
    assert numbers("dbwatch_pool_size") == 2
    assert numbers("dbwatch_leaks_total") == 0
    assert numbers("dbwatch_hold_seconds_count") == 4
    del old
    gc.collect()


async def test_a_disposed_pool_is_forgotten_once_nothing_of_it_is_out(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=2)
    for _ in range(5):
        async with connections.taken():
            pass
        await connections.dispose()
    gc.collect()
    assert len(POOLS.watched()) <= 2
    assert numbers.snapshot().used == 0
    assert numbers.checkouts("ok") == 5


# Names


def names() -> list[str]:
    return [pool.name for pool in dbwatch.snapshot()]


def test_an_engine_is_called_by_its_url_without_credentials(numbers: Numbers) -> None:
    engine = create_engine("postgresql+psycopg://scott:tiger@db.example:5433/shop?sslmode=require&password=lion")
    assert names() == ["postgresql+psycopg://db.example:5433/shop"]
    (info,) = numbers.labels("dbwatch_pool_info", "server")
    assert info == "db.example:5433"
    for label in ("pool", "server", "driver", "dialect"):
        assert not any(secret in value for value in numbers.labels("dbwatch_pool_info", label) for secret in SECRETS)
    engine.dispose()


SECRETS = ("scott", "tiger", "lion")


def test_a_pools_logging_name_is_its_name(url: str, numbers: Numbers) -> None:
    engine = create_engine(url, pool_logging_name="reports")
    assert names() == ["reports"]
    engine.dispose()


def test_the_name_given_by_watch_goes_before_all_others(url: str, numbers: Numbers) -> None:
    engine = create_engine(url, pool_logging_name="reports")
    dbwatch.watch(engine, " primary ")
    with engine.connect():
        assert names() == ["primary"]
    engine.dispose()
    with engine.connect():  # Another pool object of the same engine.
        assert names() == ["primary"]
    assert numbers("dbwatch_checkout_seconds_count", pool="primary", outcome="ok") == 2
    engine.dispose()


def test_a_name_given_while_a_connection_is_out_takes_effect_at_once(url: str, numbers: Numbers) -> None:
    engine = create_engine(url)
    with engine.connect():
        dbwatch.watch(engine, "primary")
        assert names() == ["primary"]
        assert numbers("dbwatch_pool_connections", pool="primary", state="used") == 1
    assert numbers("dbwatch_hold_seconds_count", pool="primary") == 1
    engine.dispose()


def test_engines_on_one_url_made_in_different_places_are_kept_apart(url: str, numbers: Numbers) -> None:
    primary = create_engine(url)
    replica = create_engine(url)
    third = create_engine(url)
    base = names()[0]
    assert names() == [base, f"{base}#2", f"{base}#3"]
    with primary.connect(), third.connect(), third.connect():
        assert [pool.used for pool in dbwatch.snapshot()] == [1, 0, 2]
    for engine in (primary, replica, third):
        engine.dispose()


def test_engines_made_in_one_place_share_one_name(url: str, numbers: Numbers) -> None:
    def make() -> Engine:
        return create_engine(url, pool_size=2)

    engines = [make() for _ in range(3)]
    assert len(names()) == 1
    connections = [engine.connect() for engine in engines]
    snapshot = numbers.snapshot()
    assert (snapshot.used, snapshot.size) == (3, 6)
    for connection in connections:
        connection.close()
    for engine in engines:
        engine.dispose()


async def test_an_engine_per_request_is_one_pool_and_not_hundreds(url: str, numbers: Numbers) -> None:
    app = watched_app()

    @app.get("/")
    def read() -> int:
        engine = create_engine(url)
        with engine.connect() as connection:
            value = int(connection.scalar(text("SELECT 7")) or 0)
        engine.dispose()
        return value

    async with visiting(app) as client:
        for _ in range(50):
            assert (await client.get("/")).json() == 7
    gc.collect()
    assert len(numbers.labels("dbwatch_checkout_seconds_count", "pool")) == 1
    assert numbers.checkouts("ok") == 50
    assert numbers("dbwatch_leaks_total") == 0
    assert numbers("dbwatch_label_overflow_total") == 0


def test_no_more_than_twenty_names_have_series_of_their_own(tmp_path: Path, numbers: Numbers) -> None:
    engines = [create_engine(f"sqlite:///{tmp_path}/{number}.db") for number in range(25)]
    for engine in engines:
        with engine.connect():
            pass
    pools = numbers.labels("dbwatch_checkout_seconds_count", "pool")
    assert len(pools) == 21
    assert "(other)" in pools
    assert numbers("dbwatch_checkout_seconds_count", pool="(other)", outcome="ok") == 5
    assert numbers.checkouts("ok") == 25
    assert numbers("dbwatch_label_overflow_total", label="pool") == 5
    for engine in engines:
        engine.dispose()


# Fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_starts_at_zero_and_its_parent_goes_on(postgres: EmbeddedPostgres) -> None:
    program = f"""
        import os, sys, threading
        import dbwatch
        from dbwatch.ledger import LEDGER
        from sqlalchemy import create_engine, text

        dbwatch.install()
        engine = create_engine("{postgres.url()}", pool_size=2, max_overflow=1)
        dbwatch.watch(engine, "primary")

        def ok():
            dbwatch.flush()
            series = LEDGER.accumulators.histograms["dbwatch_checkout_seconds"]
            return sum(series[("primary", "ok")].counts)

        out = engine.connect()
        engine.connect().close()
        LEDGER._lock.acquire()  # As another thread might at the moment of the fork.
        child = os.fork()
        if child == 0:
            (pool,) = dbwatch.snapshot()
            assert (pool.used, pool.waiters, pool.leaked, pool.used_peak) == (0, 0, 0, 0), pool
            assert ok() == 0
            engine.dispose(close=False)
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
                (pool,) = dbwatch.snapshot()
                assert (pool.name, pool.used) == ("primary", 1), pool
            (pool,) = dbwatch.snapshot()
            assert (pool.used, pool.idle) == (0, 1), pool
            assert ok() == 1
            assert not LEDGER.accumulators.counters["dbwatch_internal_errors_total"]
            os._exit(0)
        LEDGER._lock.release()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        (pool,) = dbwatch.snapshot()
        assert (pool.used, pool.idle) == (1, 1), pool
        assert ok() == 2
        out.close()
        assert dbwatch.snapshot()[0].idle == 2
        engine.dispose()
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_the_scan_at_installation_disturbs_no_other_thread(url: str) -> None:
    """A tuple that is being made from a generator must not be referred to by anybody else."""
    engine = create_engine(url)
    scanned = threading.Event()

    def make_tuples() -> int:
        made = 0
        while not scanned.is_set():
            made += len(tuple(number for number in range(500)))
        return made

    with ThreadPoolExecutor(4) as threads:
        makers = [threads.submit(make_tuples) for _ in range(4)]
        try:
            for _ in range(10):
                POOLS.scan()
        finally:
            scanned.set()
        assert all(maker.result() for maker in makers)
    assert engine in [known for known, _ in POOLS.engines()]
