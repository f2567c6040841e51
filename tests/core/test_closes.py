"""Connections are opened and closed for a reason, and every reason is counted as itself."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, SingletonThreadPool, create_engine, event, exc, text

from tests.core.conftest import Connect
from tests.core.numbers import Numbers


def all_accounted_for(numbers: Numbers) -> bool:
    """True if what was opened and not closed is what is out or idle now."""
    snapshot = numbers.snapshot()
    opened = numbers("dbwatch_connections_opened_total")
    return opened - numbers("dbwatch_connections_closed_total") == snapshot.used + snapshot.idle


async def test_overflow_connections_are_closed_when_they_come_back(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=2)
    async with connections.taken(3):
        assert numbers.closed() == {}
    assert numbers.closed() == {"overflow": 2}
    assert numbers.snapshot().idle == 1
    assert all_accounted_for(numbers)


async def test_a_connection_too_old_is_recycled(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_recycle=3600)

    @event.listens_for(connections.sync_engine, "checkin")
    def as_if_it_had_lain_idle(_connection: object, record: Any) -> None:
        record.starttime -= 4000

    async with connections.taken():
        assert numbers.closed() == {}
    async with connections.taken():
        assert numbers.closed() == {"recycle": 1}
        assert numbers.snapshot().idle == 0
    assert numbers("dbwatch_connections_opened_total") == 2
    assert numbers.phase("connect")[0] == 2
    assert all_accounted_for(numbers)


async def test_an_invalidated_connection_is_closed_as_such_and_its_hold_ends(
    connect: Connect, numbers: Numbers
) -> None:
    connections = connect()
    async with connections.taken() as (connection,):
        await connections.invalidate(connection)
        snapshot = numbers.snapshot()
        assert (snapshot.used, snapshot.idle) == (0, 0)
        assert numbers("dbwatch_hold_seconds_count") == 1
        await connections.execute(connection, "SELECT 1")  # It silently takes another one.
        assert numbers.snapshot().used == 1
        assert numbers.checkouts("ok") == 2
    assert numbers.closed() == {"invalidated": 1}
    assert numbers("dbwatch_hold_seconds_count") == 2
    assert numbers.snapshot().idle == 1
    assert all_accounted_for(numbers)


async def test_a_softly_invalidated_connection_is_replaced_at_its_next_checkout(
    connect: Connect, numbers: Numbers
) -> None:
    connections = connect()

    async with connections.taken() as (connection,):
        await connections.invalidate(connection, soft=True)
    assert numbers.closed() == {}
    async with connections.taken():
        assert numbers.closed() == {"invalidated": 1}
    assert all_accounted_for(numbers)


async def test_a_failed_ping_closes_one_connection_and_invalidates_its_generation(
    connect: Connect, numbers: Numbers
) -> None:
    connections = connect(pool_size=3, pool_pre_ping=True)
    async with connections.taken(3):
        pass
    dialect = connections.sync_engine.dialect
    ping = dialect.do_ping

    def fail_once(dbapi_connection: object) -> bool:
        del dialect.do_ping
        return False

    assert ping is not None
    dialect.do_ping = fail_once  # type: ignore[method-assign]
    async with connections.taken(3):
        assert numbers.snapshot().used == 3
    assert numbers("dbwatch_pre_ping_failures_total") == 1
    assert numbers.closed() == {"pre_ping": 1, "invalidated": 2}
    assert numbers("dbwatch_connections_opened_total") == 6
    assert numbers("dbwatch_route_events_total", event="pre_ping_failure") == 1
    assert numbers.snapshot().idle == 3
    assert all_accounted_for(numbers)


async def test_dispose_closes_idle_connections(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=3)
    async with connections.taken(3):
        pass
    await connections.dispose()
    assert numbers.closed() == {"dispose": 3}
    assert numbers.snapshot().idle == 0
    async with connections.taken():
        assert numbers.snapshot().used == 1
    assert all_accounted_for(numbers)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_detached_connection_leaves_the_pool(connect: Connect, numbers: Numbers) -> None:
    connections = connect(pool_size=1, max_overflow=0)
    async with connections.taken() as (connection,):
        await connections.detach(connection)
        snapshot = numbers.snapshot()
        assert (snapshot.used, snapshot.idle, snapshot.waiters) == (0, 0, 0)
        assert numbers.closed() == {"detached": 1}
        await connections.execute(connection, "SELECT 1")
        async with connections.taken():  # Its place is free.
            assert numbers.snapshot().used == 1
    assert numbers("dbwatch_hold_seconds_count") == 2
    assert numbers.closed() == {"detached": 1}
    assert numbers("dbwatch_leaks_total") == 0
    assert all_accounted_for(numbers)
    del connection
    gc.collect()  # Some drivers close a detached connection no earlier.


async def test_a_pool_that_keeps_nothing_closes_for_no_special_reason(connect: Connect, numbers: Numbers) -> None:
    connections = connect(poolclass=NullPool)
    for _ in range(3):
        async with connections.taken():
            assert (numbers.snapshot().used, numbers.snapshot().idle) == (1, 0)
    assert numbers.closed() == {"other": 3}
    assert all_accounted_for(numbers)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_is_dropped_takes_its_idle_connections_with_it(tmp_path: Path, numbers: Numbers) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    dispose_is_forgotten = engine.connect()
    dispose_is_forgotten.close()
    del dispose_is_forgotten, engine
    gc.collect()
    assert numbers.closed() == {"gc": 1}


def test_the_surplus_of_a_pool_per_thread_is_closed(tmp_path: Path, numbers: Numbers) -> None:
    engine = create_engine(
        f"sqlite:///{tmp_path / 'test.db'}",
        poolclass=SingletonThreadPool,
        pool_size=2,
        connect_args={"check_same_thread": False},
    )
    for _ in range(4):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: engine.connect().close()).result()
    assert numbers("dbwatch_connections_opened_total") == 4
    assert numbers.closed().keys() <= {"other", "gc"}
    assert numbers.snapshot().used == 0
    engine.dispose()


async def test_a_stale_connection_without_pre_ping_is_invalidated(connect: Connect, numbers: Numbers) -> None:
    connections = connect()
    async with connections.taken() as (connection,):

        @event.listens_for(connections.sync_engine, "handle_error")
        def as_if_the_server_had_gone(context: object) -> None:
            context.is_disconnect = True  # type: ignore[attr-defined]

        with pytest.raises(exc.DBAPIError):
            await connections.execute(connection, "SELECT nothing FROM nowhere")
        assert numbers.snapshot().used == 0
    assert numbers.closed() == {"invalidated": 1}
    assert numbers("dbwatch_pre_ping_failures_total") == 0
    assert numbers("dbwatch_hold_seconds_count") == 1
    assert all_accounted_for(numbers)


def test_a_connection_that_another_listener_rejects_is_replaced_in_the_same_checkout(
    tmp_path: Path, numbers: Numbers
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    rejected: list[object] = []

    @event.listens_for(engine, "checkout")
    def reject_the_first(connection: object, *_: object) -> None:
        if not rejected:
            rejected.append(connection)
            raise exc.DisconnectionError("not this one")

    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        assert numbers.snapshot().used == 1
    assert numbers.checkouts("ok") == 1
    assert numbers("dbwatch_hold_seconds_count") == 1
    assert numbers("dbwatch_connections_opened_total") == 2
    assert numbers.closed() == {"invalidated": 1}
    assert all_accounted_for(numbers)
    engine.dispose()
