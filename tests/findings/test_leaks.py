"""Leaks on one path only, and leaks where nobody looks: each found, with its route and its line."""

import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.core.numbers import Numbers
from tests.findings.apps import leaked_connection, leaks
from tests.findings.conftest import StageApp
from tests.findings.guilty import guilty_lines, place
from tests.findings.stage import Build
from tests.findings.visitor import Visitor
from tests.servers.databases import ASYNC, SYNC
from tests.servers.waiting import eventually

pytestmark = pytest.mark.filterwarnings(
    # What SQLAlchemy, the drivers and Python themselves say about a connection that was dropped.
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
    "ignore:coroutine 'AsyncSession.close' was never awaited:RuntimeWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

BOTH = (*SYNC, *ASYNC)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What a test has lost is found while its warnings are still ignored, and not by the next file's tests."""
    yield
    gc.collect()


def leaked_at(visitor: Visitor, build: Build, *, method: str = "GET", route: str = "/orders/{number}") -> int:
    """How many leaks were found; asserts that each is at the guilty line and that nothing else was found."""
    visitor.until_quiet()
    gc.collect()  # AnyIO 4.11 keeps a call in a thread that has raised, and its context, in a reference cycle.
    findings = visitor.findings()
    (line,) = guilty_lines(build)
    # A thread's next request goes on with the connection that the last one left in the thread's session.
    also = "shared_session" if build is leaks.scoped_session_without_remove else "leaked_connection"
    told = {(found.finding, found.method, found.route, place(found.lines[0])) for found in findings}
    assert told <= {("leaked_connection", method, route, line), (also, method, route, line)}
    return sum(found.finding == "leaked_connection" for found in findings)


@pytest.mark.parametrize("database", BOTH)
def test_a_connection_lost_on_the_exception_path_only_is_found_on_that_path_only(
    database: str, stage: StageApp
) -> None:
    build = leaks.no_finally_async if database in ASYNC else leaks.no_finally_sync
    with stage(database, build) as visitor:
        assert {answer.status_code for answer in visitor.many("/orders/1", 12)} <= {200, 404}
        fine = leaked_at(visitor, build)
        assert {answer.status_code for answer in visitor.many("/orders/999999", 6)} == {404}
        assert leaked_at(visitor, build) - fine == 6


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection by accident: right after a request, it would give its connection back in time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("database", ["sqlite-aiosqlite", "postgres-asyncpg", "postgres-psycopg-async"])
@pytest.mark.parametrize("build", [leaks.close_after_the_last_chunk, leaks.abandoned_generator])
def test_a_connection_lost_when_the_client_hangs_up_is_found(build: Build, database: str, stage: StageApp) -> None:
    with stage(database, build, idle_hold_seconds=60.0) as visitor:
        assert visitor.get("/customers").is_success
        assert leaked_at(visitor, build, route="/customers") == 0
        with uncollected():
            for _ in range(3):
                with visitor.stream("/customers") as answer:
                    next(answer.iter_bytes())
            visitor.findings()
        gc.collect()  # An abandoned generator may keep its connection until then.
        assert eventually(lambda: leaked_at(visitor, build, route="/customers")) == 3


EVERY_TIME = [
    *((leaks.sub_dependency_sync, database) for database in SYNC),
    *((leaks.sub_dependency_async, database) for database in ASYNC),
    *((leaks.raw_connect_sync, database) for database in SYNC),
    *((leaks.raw_connect_async, database) for database in ASYNC),
    *((leaks.raw_driver_connection, database) for database in SYNC),
    *((leaks.scoped_session_without_remove, database) for database in SYNC),
    *((leaks.thread_of_the_request, database) for database in SYNC),
    *((leaks.another_middleware, database) for database in ASYNC),
    *((leaks.close_without_await, database) for database in ASYNC),
]


def names(value: Any) -> str:
    """A test's id."""
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("build", "database"), EVERY_TIME, ids=names)
def test_a_leak_is_found_once_for_each_request_wherever_it_happens(
    build: Build, database: str, stage: StageApp, numbers: Numbers
) -> None:
    with stage(database, build) as visitor:
        assert all(answer.is_success for answer in visitor.many("/orders/7", 10, clients=5))
        found = leaked_at(visitor, build)
        assert 1 <= found <= 5 if build is leaks.scoped_session_without_remove else found == 10
        assert numbers("dbwatch_findings_total", finding="leaked_connection") == found
        gc.collect()
        assert leaked_at(visitor, build) == found  # Reclaimed later, it is not found again.


@pytest.mark.parametrize("database", ASYNC)
def test_a_connection_lost_outside_of_the_middleware_is_found_when_it_is_reclaimed(
    database: str, stage: StageApp
) -> None:
    with stage(database, leaks.middleware_further_out) as visitor:
        for _ in range(5):  # A server keeps the scope of the last request of a connection.
            assert visitor.get("/orders/7", headers={"Connection": "close"}).is_success
        visitor.until_quiet()
        gc.collect()
        found = visitor.findings()
        assert {(one.finding, one.method, one.route) for one in found} == {("leaked_connection", "(none)", "(none)")}
        assert {place(one.lines[0]) for one in found} == set(guilty_lines(leaks.another_middleware))
        assert len(found) == 5


@pytest.mark.parametrize("database", ASYNC)
def test_a_connection_lost_by_a_websocket_is_found_when_its_client_hangs_up(database: str, stage: StageApp) -> None:
    with stage(database, leaks.websocket) as visitor:
        address = visitor.url.replace("http", "ws")
        with connect(f"{address}/live/1", proxy=None) as socket:
            assert socket.recv() in {"new", "unknown"}
            socket.send("enough")
        assert leaked_at(visitor, leaks.websocket, method="WS", route="/live/{number}") == 0
        with connect(f"{address}/live/1", proxy=None) as socket:
            socket.recv()
        assert leaked_at(visitor, leaks.websocket, method="WS", route="/live/{number}") == 1


@pytest.mark.parametrize("database", ASYNC)
def test_a_connection_lost_by_a_spawned_task_is_found_when_the_task_has_ended(database: str, stage: StageApp) -> None:
    build = leaks.spawned_task_that_takes_its_connection_first
    with stage(database, build) as visitor:
        assert visitor.get("/orders/7").is_success
        visitor.until_quiet()
        assert visitor.findings_so_far() == ()
        assert visitor.get("/end").is_success
        assert leaked_at(visitor, build) == 1


@pytest.mark.parametrize("database", ASYNC)
def test_a_session_used_again_by_a_task_after_its_request_is_found_with_the_tasks_line(
    database: str, stage: StageApp
) -> None:
    build: Callable[..., None] = leaks.spawned_task_with_the_requests_session
    with stage(database, build) as visitor:
        assert visitor.get("/orders/7").is_success
        visitor.until_quiet()
        assert visitor.get("/end").is_success
        visitor.until_quiet()
        gc.collect()
        assert leaked_at(visitor, build) == 1


@pytest.mark.parametrize("database", BOTH)
def test_the_line_that_made_the_session_is_named_beside_the_one_that_took_the_connection(
    database: str, stage: StageApp
) -> None:
    build = leaked_connection.faulty_async if database in ASYNC else leaked_connection.faulty_sync
    with stage(database, build) as visitor:
        assert visitor.get("/orders/7").is_success
        (leak,) = visitor.findings()
    (taken,) = guilty_lines(build)
    assert place(leak.lines[0]) == taken
    source, first = inspect.getsourcelines(build)
    made = source[int(place(leak.lines[-1]).rpartition(":")[2]) - first]
    assert made.strip().startswith("return ")
    assert f"The session was made at {leak.lines[-1]}." in leak.message


def test_a_leaked_connection_without_a_session_names_no_session(stage: StageApp) -> None:
    with stage("sqlite-pysqlite", leaks.raw_connect_sync) as visitor:
        assert visitor.get("/orders/7").is_success
        (leak,) = visitor.findings()
    assert "session" not in leak.message
