import signal
from typing import Any

import pytest
from sqlalchemy import AsyncAdaptedQueuePool, NullPool, QueuePool, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from demo_app.postgres import EmbeddedPostgres
from tests.servers.databases import AsyncDatabase, SyncDatabase
from tests.servers.mariadb import MariaDB
from tests.servers.pgbouncer import PgBouncer
from tests.servers.proxy import TCPProxy


def test_a_sync_database_answers_from_a_pool_of_the_size_asked_for(sync_database: SyncDatabase) -> None:
    engine = sync_database.engine(pool_size=3)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 40 + 2")) == 42
    assert type(engine.pool) is QueuePool
    assert engine.pool.size() == 3


async def test_an_async_database_answers_from_a_pool_of_the_size_asked_for(async_database: AsyncDatabase) -> None:
    engine = async_database.engine(pool_size=3)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 40 + 2")) == 42
    assert type(engine.pool) is AsyncAdaptedQueuePool
    assert engine.pool.size() == 3


async def test_every_database_gives_each_test_engines_of_its_own(database: SyncDatabase | AsyncDatabase) -> None:
    one, other = database.engine(poolclass=NullPool), database.engine()
    assert one.pool is not other.pool
    assert isinstance(one, AsyncEngine) == isinstance(database, AsyncDatabase)
    assert database.engines == [one, other]


@pytest.mark.parametrize("driver", ["aiomysql", "asyncmy"])
async def test_mariadb_answers_async_drivers(mariadb: MariaDB, driver: str) -> None:
    engine = create_async_engine(mariadb.url(driver))
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 40 + 2")) == 42
    await engine.dispose()


def test_behind_pgbouncer_idle_clients_hold_no_connection_of_the_server(
    pgbouncer: PgBouncer, postgres: EmbeddedPostgres
) -> None:
    options: dict[str, Any] = {"connect_args": {"prepare_threshold": None, "application_name": "bounced"}}
    engine = create_engine(pgbouncer.url("psycopg"), pool_size=8, **options)
    clients = [engine.connect() for _ in range(8)]
    for client in clients:
        assert client.scalar(text("SELECT 40 + 2")) == 42
        client.commit()
    direct = create_engine(postgres.url())
    with direct.connect() as connection:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bounced'")
        assert connection.scalar(query) == 1
    for client in clients:
        client.close()
    engine.dispose()
    direct.dispose()


def test_mariadb_keeps_its_port_and_data_over_a_crash(mariadb: MariaDB) -> None:
    engine = create_engine(mariadb.url("pymysql"), pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE survivors (id INT PRIMARY KEY)"))
        connection.execute(text("INSERT INTO survivors VALUES (7)"))
    mariadb.restart(signal.SIGKILL)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT id FROM survivors")) == 7
        connection.execute(text("DROP TABLE survivors"))
    engine.dispose()


def test_a_connection_cut_in_a_query_fails_once_and_the_query_was_run(postgres: EmbeddedPostgres) -> None:
    with TCPProxy(postgres.port) as proxy:
        engine = create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable")
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE cuts (id INT)"))
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            proxy.cut_next_response()
            with pytest.raises(OperationalError):
                connection.execute(text("INSERT INTO cuts VALUES (1)"))
        with engine.begin() as connection:
            assert connection.scalar(text("SELECT count(*) FROM cuts")) == 1
            connection.execute(text("DROP TABLE cuts"))
        engine.dispose()
