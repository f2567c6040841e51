"""A test suite as a project has it, of each faulty app and of its corrected twin. It checks only that answers arrive:
without the plugin all of it passes.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, make_url, text

from tests.findings.apps import (
    blocked_event_loop,
    checkout_timeout,
    engine_per_request,
    idle_hold,
    leaked_connection,
    lost_write,
    nested_checkout,
    repeated_statement,
    shared_session,
    slow_checkout,
    stale_connection,
)
from tests.findings.apps.shop import create_shop
from tests.findings.stage import Stage

#: Where the tests of the plugin say which PostgreSQL may be used.
POSTGRES = "DBWATCH_SAMPLE_POSTGRES"

pytestmark = pytest.mark.filterwarnings(
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def one(path: str) -> Callable[[TestClient], None]:
    def visit(client: TestClient) -> None:
        assert client.get(path).is_success

    return visit


def one_after_the_other(client: TestClient) -> None:
    assert client.get("/orders/7").is_success
    assert client.get("/orders/7").is_success


def at_once(*paths: str) -> Callable[[TestClient], None]:
    """Requests at the same time, of which one may be turned away."""

    def visit(client: TestClient) -> None:
        with ThreadPoolExecutor(len(paths)) as threads:
            answers = list(threads.map(client.get, paths))
        assert any(answer.is_success for answer in answers)

    return visit


def place_an_order(client: TestClient) -> None:
    assert client.post("/orders").is_success


def while_the_server_closes_what_is_idle(client: TestClient) -> None:
    assert client.get("/orders/1").is_success
    killer = create_engine(os.environ[POSTGRES], isolation_level="AUTOCOMMIT")
    with killer.connect() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {others}"))
    killer.dispose()
    client.get("/orders/1")


@dataclass(frozen=True)
class Case:
    """A mistake and the requests that make it."""

    apps: ModuleType
    visit: Callable[[TestClient], None]
    is_async: bool = False
    on_postgres: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.apps.__name__.rpartition(".")[2]

    def stage(self, kind: str, directory: Path) -> Stage:
        """The faulty or the corrected app."""
        if self.on_postgres:
            url, name = os.environ[POSTGRES], "postgres-psycopg"
            create_shop(url)
        else:
            url, name = f"sqlite:///{directory / 'shop.db'}", "sqlite-pysqlite"
            create_shop(url)
            if self.is_async:
                url, name = str(make_url(url).set(drivername="sqlite+aiosqlite")), "sqlite-aiosqlite"
        stage = Stage(name, url, **self.options)
        self.build(kind)(stage)
        return stage

    def build(self, kind: str) -> Callable[[Stage], None]:
        """The function that adds the routes."""
        builder: Callable[[Stage], None] = getattr(self.apps, f"{kind}_{'async' if self.is_async else 'sync'}")
        return builder


CASES = (
    Case(leaked_connection, one("/orders/7")),
    Case(leaked_connection, one("/orders/7"), is_async=True),
    Case(engine_per_request, one_after_the_other),
    Case(blocked_event_loop, one("/orders/7")),
    Case(stale_connection, while_the_server_closes_what_is_idle, on_postgres=True),
    Case(shared_session, at_once("/orders/1", "/orders/2"), is_async=True),
    Case(lost_write, place_an_order),
    Case(lost_write, place_an_order, is_async=True),
    Case(nested_checkout, one("/orders/7")),
    Case(idle_hold, one("/orders/7"), options={"idle_hold_seconds": 0.1}),
    Case(repeated_statement, one("/customers")),
    Case(checkout_timeout, at_once("/reports", "/reports")),
)
#: A finding, but not one that a test should fail for.
SLOW = Case(
    slow_checkout, at_once("/reports", "/reports"), options={"slow_checkout_seconds": 0.2, "idle_hold_seconds": 10.0}
)


def named(cases: tuple[Case, ...]) -> list[Any]:
    return [pytest.param(case, id=f"{case.name}-{'async' if case.is_async else 'sync'}") for case in cases]


@pytest.fixture
def client(case: Case, kind: str, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(case.stage(kind, tmp_path).app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("kind", ["faulty", "corrected"])
@pytest.mark.parametrize("case", named((*CASES, SLOW)))
def test_an_answer_arrives(case: Case, client: TestClient) -> None:
    case.visit(client)


@pytest.mark.parametrize("kind", ["faulty"])
@pytest.mark.parametrize("case", named(CASES[:1]))
def test_of_an_app_without_the_middleware(case: Case, kind: str, tmp_path: Path) -> None:
    stage = case.stage(kind, tmp_path)
    stage.app.user_middleware.clear()
    with TestClient(stage.app) as client:
        case.visit(client)
