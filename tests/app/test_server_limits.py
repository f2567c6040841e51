"""What the server allows is read once for each pool, and the pool's share of it is exported."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import QueuePool, create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine

import dbwatch
from dbwatch import DBWatchMiddleware, PoolSnapshot
from dbwatch.hooks import limits
from demo_app.postgres import EmbeddedPostgres
from tests.app.calls import Receive, Scope, Send
from tests.app.scrape import counted
from tests.servers.mariadb import MariaDB


async def nothing(scope: Scope, receive: Receive, send: Send) -> None: ...


@pytest.fixture
def asking() -> Iterator[None]:
    """The option switched on, and off again."""
    DBWatchMiddleware(nothing, server_limits=True)
    yield
    DBWatchMiddleware(nothing)


def pool(name: str) -> PoolSnapshot:
    [found] = [snapshot for snapshot in dbwatch.snapshot() if snapshot.name == name]
    return found


def allowed_by(postgres: EmbeddedPostgres) -> int:
    """By other means than ours: what is left to an account without rights."""
    engine = create_engine(postgres.url())
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT name, setting::int FROM pg_settings WHERE name LIKE '%reserved_connections'")
        )
        reserved = sum(int(setting) for _name, setting in rows)
        most = connection.scalar(text("SELECT setting::int FROM pg_settings WHERE name = 'max_connections'"))
    engine.dispose()
    assert most is not None
    return int(most) - int(reserved)


def test_a_pool_on_postgresql_exports_its_share_of_the_server(asking: None, postgres: EmbeddedPostgres) -> None:
    engine = create_engine(postgres.url("psycopg"), pool_size=3, max_overflow=4)
    dbwatch.watch(engine, name="asked")
    with engine.connect(), engine.connect():
        pass
    allowed = allowed_by(postgres)
    assert pool("asked").server_allows == allowed
    page = counted()
    assert page.value("dbwatch_server_max_connections", pool="asked") == allowed
    assert page.value("dbwatch_pool_server_share_ratio", pool="asked") == pytest.approx(7 / allowed)
    engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
async def test_an_async_driver_can_be_asked_as_well(driver: str, asking: None, postgres: EmbeddedPostgres) -> None:
    engine = create_async_engine(postgres.url(driver))
    dbwatch.watch(engine, name="asked")
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    assert pool("asked").server_allows == allowed_by(postgres)
    await engine.dispose()


def test_a_pool_on_mariadb_exports_its_share_of_the_server(asking: None, mariadb: MariaDB) -> None:
    engine = create_engine(mariadb.url("pymysql"))
    dbwatch.watch(engine, name="asked")
    with engine.connect() as connection:
        most = connection.scalar(text("SELECT @@max_connections"))
    assert pool("asked").server_allows == most
    engine.dispose()


def test_the_server_is_asked_once_for_a_pool_and_the_connection_is_left_without_a_transaction(
    asking: None, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits._ALLOWED, "postgresql", "SELECT pg_backend_pid(), 0")
    engine = create_engine(postgres.url("psycopg"), pool_size=2)
    dbwatch.watch(engine, name="asked")
    found: list[tuple[int, str]] = []

    def look(connection: psycopg.Connection, _record: object) -> None:
        found.append((connection.info.backend_pid, connection.info.transaction_status.name))

    event.listen(engine, "connect", look)
    with engine.connect(), engine.connect():
        pass
    (first, _), (second, _) = found
    assert pool("asked").server_allows == first != second
    assert {status for _, status in found} == {"IDLE"}
    engine.dispose()


@pytest.mark.parametrize("make", [lambda: None, lambda: DBWatchMiddleware(nothing, server_limits=True)])
def test_nothing_is_said_of_a_server_that_was_not_asked_or_is_none(make: Callable[[], object]) -> None:
    make()
    engine = create_engine("sqlite://", poolclass=QueuePool)
    dbwatch.watch(engine, name="silent")
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert pool("silent").server_allows is None
    assert not list(counted().samples("dbwatch_server_max_connections", pool="silent"))
    assert not list(counted().samples("dbwatch_pool_server_share_ratio", pool="silent"))
    DBWatchMiddleware(nothing)
    engine.dispose()


def test_without_the_option_nobody_is_asked(postgres: EmbeddedPostgres) -> None:
    DBWatchMiddleware(nothing)
    engine = create_engine(postgres.url("psycopg"))
    dbwatch.watch(engine, name="quiet")
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert pool("quiet").server_allows is None
    engine.dispose()
