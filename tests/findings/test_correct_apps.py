"""Correct apps are accused of nothing, however many clients they have."""

import functools
import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from websockets.sync.client import connect

import dbwatch
from demo_app.postgres import EmbeddedPostgres
from tests.apps import beyond, engines, sessions, visits
from tests.apps.correct import CORRECT, Urls
from tests.core.numbers import Numbers
from tests.findings.apps import correct
from tests.findings.apps.shop import create_shop
from tests.findings.conftest import StageApp
from tests.findings.stage import Build, Stage
from tests.findings.visitor import Visitor
from tests.servers.asgi import serve
from tests.servers.databases import ASYNC, OLD_SQLALCHEMY, SYNC

assert all((beyond, engines, sessions))  # They fill the catalogue.

pytestmark = pytest.mark.filterwarnings(
    # Clients that hang up, and tasks that end with their loop.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

#: 200 on the day that counts, ``DBWATCH_TEST_REQUESTS=200``; fewer in every run.
REQUESTS = int(os.environ.get("DBWATCH_TEST_REQUESTS", "40"))


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is slow because the machine has much to do is not what is tested here."""
    monkeypatch.setenv("DBWATCH_SLOW_CHECKOUT_SECONDS", "15")
    monkeypatch.setenv("DBWATCH_IDLE_HOLD_SECONDS", "5")


@pytest.fixture(scope="module")
def notes(postgres: EmbeddedPostgres) -> None:
    engine = create_engine(postgres.url("psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP TABLE IF EXISTS notes"))
        connection.execute(text("CREATE TABLE notes (id serial PRIMARY KEY, body text NOT NULL)"))
    engine.dispose()


#: uvloop 0.23 crashes under asyncpg connections that are closed by the dozen, dbwatch switched off or not.
ON_UVLOOP = [
    name
    for name in CORRECT
    if name != "an_async_engine_that_is_disposed_of_and_used_again"
    and not (OLD_SQLALCHEMY and name == "clients_that_hang_up")
]


@pytest.mark.parametrize("name", ON_UVLOOP)
def test_a_correct_app_is_accused_of_nothing_on_uvloop(
    name: str, postgres: EmbeddedPostgres, notes: None, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "serve", functools.partial(serve, loop="uvloop"))
    pattern = CORRECT[name](Urls(postgres.url(), postgres.url("asyncpg")))
    pattern.visit(pattern.app, REQUESTS)
    assert dbwatch.settle(20.0)
    gc.collect()
    assert dbwatch.findings() == ()
    assert numbers("dbwatch_findings_total") == 0
    assert numbers.checkouts("ok") > 0


def over(*paths: str) -> Callable[[Visitor], None]:
    """Requests to the paths in turn, from many clients at once."""

    def visit(visitor: Visitor) -> None:
        answers = visitor.all([paths[number % len(paths)] for number in range(REQUESTS)], clients=20)
        assert {answer.status_code for answer in answers} == {200}

    return visit


def one_after_the_other(*paths: str) -> Callable[[Visitor], None]:
    """The paths in turn, each when the one before has ended."""

    def visit(visitor: Visitor) -> None:
        for number in range(12):
            assert visitor.get(paths[number % len(paths)]).is_success
            visitor.until_quiet()

    return visit


def seldom(visitor: Visitor) -> None:
    """A few of the larger requests."""
    assert {answer.status_code for answer in visitor.many("/", 4, clients=2)} == {200}


def by_websocket(visitor: Visitor) -> None:
    """Many messages in quick succession over one websocket."""
    with connect(f"{visitor.url.replace('http', 'ws')}/live", proxy=None) as socket:
        for number in range(REQUESTS):
            socket.send(str(number % 5))
            assert socket.recv()


LOOK_FAULTY: list[tuple[Build, Callable[[Visitor], None], tuple[str, ...]]] = [
    (correct.engines_of_schemas, one_after_the_other("/a", "/b", "/c"), SYNC),
    (correct.engines_of_tenants, one_after_the_other("/a", "/a", "/b", "/b"), SYNC),
    (correct.engines_that_expire, one_after_the_other("/tenants/a", "/expire"), SYNC),
    (correct.engine_that_is_replaced, one_after_the_other("/replace", "/read", "/read"), SYNC),
    (correct.two_connections_of_a_pool_without_limit, over("/"), ASYNC[-1:]),
    (correct.gather_without_holding, over("/"), ASYNC[-1:]),
    (correct.second_session_after_a_commit, over("/"), ASYNC[-1:]),
    (correct.batches, seldom, ASYNC),
    (correct.websocket_messages, by_websocket, ASYNC),
    (correct.rollback_in_another_thread, over("/"), SYNC[-1:]),
    (correct.task_that_works_on, over("/"), ASYNC[-1:]),
    (correct.work_with_the_drivers_own_connection, seldom, ASYNC[1:]),
    (correct.cursor_of_the_driver, seldom, SYNC[1:]),
    (correct.slow_replica, seldom, SYNC[1:]),
    (correct.table_page_by_page, seldom, (*SYNC, "postgres-psycopg2")),
]


def names(value: object) -> str:
    """A test's id."""
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(
    ("build", "visit", "database"),
    [
        pytest.param(build, visit, database, id=f"{names(build)}-{database}")
        for build, visit, databases in LOOK_FAULTY
        for database in databases
    ],
)
def test_an_app_that_only_looks_faulty_is_accused_of_nothing(
    build: Build, visit: Callable[[Visitor], None], database: str, stage: StageApp, numbers: Numbers
) -> None:
    options: dict[str, Any] = (
        {"idle_hold_seconds": 0.2}
        if build in (correct.work_with_the_drivers_own_connection, correct.cursor_of_the_driver, correct.slow_replica)
        else {}
    )
    with stage(database, build, **options) as visitor:
        visit(visitor)
        assert visitor.findings() == ()
    gc.collect()
    assert dbwatch.findings() == ()
    assert numbers("dbwatch_findings_total") == 0


@pytest.mark.parametrize("database", ["postgres-psycopg-async", "postgres-asyncpg"])
def test_a_connection_that_dies_under_a_statement_is_not_stale(database: str, stage: StageApp) -> None:
    with stage(database, correct.statement_killed_under_way) as visitor:
        assert visitor.get("/0").is_success
        killed = visitor.begin("/30")
        time.sleep(1.3)  # Longer than a dead connection takes to say so.
        killer = create_engine(make_url(visitor.stage.url).set(drivername="postgresql+psycopg"))
        with killer.connect() as connection:
            sleeping = "FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30%'"
            assert connection.scalars(text(f"SELECT pg_terminate_backend(pid) {sleeping}")).all() == [True]
        killer.dispose()
        assert killed.result().status_code == 500
        assert visitor.findings() == ()


@pytest.fixture(scope="module")
def two_phase_server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that can prepare transactions."""
    with EmbeddedPostgres(settings={"max_prepared_transactions": "50"}) as server:
        create_shop(server.url("psycopg"))
        yield server


def test_rows_of_a_two_phase_transaction_are_not_lost(two_phase_server: EmbeddedPostgres, numbers: Numbers) -> None:
    stage = Stage("postgres-psycopg", two_phase_server.url("psycopg"))
    correct.two_phases(stage)
    with serve(stage) as url, Visitor(url, stage) as visitor:
        over("/")(visitor)
        assert visitor.findings() == ()
        engine = create_engine(two_phase_server.url("psycopg"))
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM tags")) == 1 + 2 * REQUESTS
        engine.dispose()
