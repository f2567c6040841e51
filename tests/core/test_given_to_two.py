"""A pool that gives one connection to two holders, as SQLAlchemy 2.1.9 can: their sessions are their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, QueuePool, create_engine, text
from sqlalchemy.exc import ProgrammingError

from dbwatch.records import Request
from tests.core.made import a_request, working_for
from tests.core.numbers import Numbers

_STATEMENT = text("SELECT 1")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose pool has room for two."""
    made = create_engine(f"sqlite:///{tmp_path / 'test.db'}", poolclass=QueuePool, pool_size=2)
    yield made
    made.dispose()


def taken_for(request: Request, engine: Engine) -> Connection:
    """A connection that a request has taken."""
    with working_for(request):
        return engine.connect()


def given_to_two(engine: Engine, first: Request, second: Request) -> list[Connection]:
    """What two requests get if SQLAlchemy returns the record of the first one's connection behind its back."""
    one = taken_for(first, engine)
    engine.pool._do_return_conn(one.connection._connection_record)
    return [one, taken_for(second, engine)]


def accused(*requests: Request) -> list[str]:
    return [finding for request in requests for finding, *_ in request.evidence or {}]


def test_two_holders_of_one_connection_are_not_accused_of_sharing_a_session(engine: Engine) -> None:
    first, second = a_request(), a_request()
    one, other = given_to_two(engine, first, second)
    assert one.connection.dbapi_connection is other.connection.dbapi_connection
    with working_for(first):
        one.execute(_STATEMENT)
    with working_for(second):
        other.execute(_STATEMENT)
    assert accused(first, second) == []
    for connection in (one, other):
        connection.close()


@pytest.mark.parametrize("first_back", [0, 1])
def test_both_holds_end_and_neither_is_a_leak(engine: Engine, first_back: int, numbers: Numbers) -> None:
    request = a_request()
    connections = given_to_two(engine, request, request)
    connections.pop(first_back).close()
    connections.pop().close()
    pool = numbers.snapshot()
    assert (pool.used, pool.leaked) == (0, 0)
    assert numbers.checkouts("ok") == numbers("dbwatch_hold_seconds_count") == 2
    assert numbers("dbwatch_leaks_total") == 0


@pytest.mark.parametrize("which_runs", [0, 1], ids=["the-first-runs", "the-second-runs"])
def test_nor_are_they_when_their_statements_run_at_once(engine: Engine, which_runs: int, numbers: Numbers) -> None:
    requests = [a_request(), a_request()]
    connections = given_to_two(engine, *requests)

    def meanwhile() -> int:
        with working_for(requests[not which_runs]):
            connections[not which_runs].execute(_STATEMENT)
        return 1

    assert connections[0].connection.dbapi_connection is not None
    connections[0].connection.dbapi_connection.create_function("meanwhile", 0, meanwhile)
    with working_for(requests[which_runs]):
        connections[which_runs].execute(text("SELECT meanwhile()"))
    assert [holder.executing for holder in numbers.snapshot().holders] == [False]
    assert accused(*requests) == []
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("which_runs", [0, 1], ids=["the-first-runs", "the-second-runs"])
def test_nor_is_a_rollback_beside_a_statement(engine: Engine, which_runs: int) -> None:
    requests = [a_request(), a_request()]
    connections = given_to_two(engine, *requests)
    with working_for(requests[not which_runs]):
        connections[not which_runs].execute(_STATEMENT)

    def meanwhile() -> int:
        connections[not which_runs].rollback()
        return 1

    assert connections[0].connection.dbapi_connection is not None
    connections[0].connection.dbapi_connection.create_function("meanwhile", 0, meanwhile)
    with working_for(requests[which_runs]):
        connections[which_runs].execute(text("SELECT meanwhile()"))
    assert accused(*requests) == []
    for connection in connections:
        connection.close()


def test_one_connection_that_another_request_uses_is_accused(engine: Engine) -> None:
    first, second = a_request(), a_request()
    one = taken_for(first, engine)
    with working_for(second):
        one.execute(_STATEMENT)
    assert accused(first, second) == ["shared_session"]
    one.close()


def test_so_is_one_on_which_two_statements_run_at_once(engine: Engine) -> None:
    first = a_request()
    one = taken_for(first, engine)

    def meanwhile() -> int:
        one.execute(_STATEMENT)
        return 1

    one.connection.dbapi_connection.create_function("meanwhile", 0, meanwhile)  # type: ignore[union-attr]
    with working_for(first):
        one.execute(text("SELECT meanwhile()"))
    assert accused(first) == ["shared_session"]
    one.close()


def test_a_connection_of_sqlite_that_is_closed_is_not_called_stale_for_no_server_has_closed_it(engine: Engine) -> None:
    with engine.connect() as connection:
        proxy: Any = connection.connection
        driver = proxy.driver_connection
    driver.close()
    request = a_request()
    with working_for(request), engine.connect() as connection, pytest.raises(ProgrammingError, match="closed database"):
        connection.execute(_STATEMENT)
    assert accused(request) == []
