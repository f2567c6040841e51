"""Apps that use their connections correctly are not accused of anything, however many clients they have."""

import gc
import sqlite3
from pathlib import Path

import psycopg
import pytest

import dbwatch
from demo_app.postgres import EmbeddedPostgres
from tests.apps import beyond, engines, sessions
from tests.apps.correct import CORRECT, Urls
from tests.core.numbers import Numbers
from tests.servers.databases import OLD_SQLALCHEMY

assert all((beyond, engines, sessions))  # They fill the catalogue.

pytestmark = pytest.mark.filterwarnings(
    # What drivers say about connections that were out when their pool was disposed of, and about streams cut short.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

ACCUSATIONS = (
    "dbwatch_leaks_total",
    "dbwatch_leaks_returned_total",
    "dbwatch_checkout_timeouts_total",
    "dbwatch_connect_errors_total",
    "dbwatch_pre_ping_failures_total",
    "dbwatch_pool_leaked_connections",
    "dbwatch_pool_waiters",
    "dbwatch_label_overflow_total",
)


@pytest.fixture(scope="module")
def notes(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres") as connection:
        connection.execute("DROP TABLE IF EXISTS notes")
        connection.execute("CREATE TABLE notes (id serial PRIMARY KEY, body text NOT NULL)")


@pytest.fixture
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Urls:
    """One database, by its drivers."""
    if request.param != "sqlite":
        request.getfixturevalue("notes")
        postgres: EmbeddedPostgres = request.getfixturevalue("postgres")
        return Urls(postgres.url(), postgres.url(request.param))
    path = tmp_path / "test.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text NOT NULL)")
    connection.close()
    return Urls(f"sqlite:///{path}", f"sqlite+aiosqlite:///{path}")


#: Where the async driver makes a difference, all of them are used.
DEPENDING_ON_THE_DRIVER = (
    "an_async_engine_that_is_disposed_of_and_used_again",
    "an_async_session_that_its_dependency_closes",
    "clients_that_hang_up",
    "queries_that_are_cancelled",
    "rows_streamed_from_a_session",
    "spawned_tasks_with_their_own_session",
    "sync_code_run_by_an_async_session",
)
CASES = [
    *[(name, "asyncpg", 64) for name in CORRECT],
    *[(name, "sqlite", 24) for name in CORRECT],
    *[(name, "psycopg_async", 40) for name in DEPENDING_ON_THE_DRIVER],
]
if OLD_SQLALCHEMY:
    CASES = [
        (name, driver, requests)
        for name, driver, requests in CASES
        if (name, driver)
        not in {
            ("changes_that_are_rolled_back_with_an_error", "sqlite"),
            ("queries_that_are_cancelled", "sqlite"),
            ("clients_that_hang_up", "asyncpg"),
        }
    ]


@pytest.mark.parametrize(("name", "urls", "requests"), CASES, indirect=["urls"])
def test_a_correct_app_is_not_accused(name: str, urls: Urls, requests: int, numbers: Numbers) -> None:
    pattern = CORRECT[name](urls)
    pattern.visit(pattern.app, requests)
    assert dbwatch.settle(10.0)
    gc.collect()
    assert {accusation: numbers(accusation) for accusation in ACCUSATIONS} == dict.fromkeys(ACCUSATIONS, 0)
    assert numbers.nonzero("dbwatch_route_events_total", "event").keys() <= {"overflow"}
    # How long a checkout takes depends on the machine; every other finding would be untrue.
    assert [found for found in dbwatch.findings() if found.finding != "slow_checkout"] == []
    assert numbers.checkouts("ok") > 0
    assert numbers.checkouts("error") == numbers.checkouts("timeout") == 0
    assert all(pool.used == 0 for pool in dbwatch.snapshot())
