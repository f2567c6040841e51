"""Each mistake is found with its route and its line, and in the corrected twin of the app nothing is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from dbwatch.catalog import FINDINGS
from tests.core.numbers import Numbers
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
from tests.findings.conftest import StageApp
from tests.findings.guilty import guilty_lines, place
from tests.findings.visitor import Visitor
from tests.servers.databases import ASYNC, OLD_SQLALCHEMY, SYNC

pytestmark = pytest.mark.filterwarnings(
    # What SQLAlchemy, the drivers and Python themselves say about a connection that was dropped.
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def concurrently(path: str, *, method: str = "GET", times: int = 12, clients: int = 6) -> Callable[[Visitor], None]:
    """Visit a path from several clients at once, and ask no more than that all is answered with a success."""

    def visit(visitor: Visitor) -> None:
        answers = visitor.many(path, times, method=method, clients=clients)
        assert all(answer.is_success for answer in answers)

    return visit


def while_the_server_closes_what_is_idle(visitor: Visitor) -> None:
    """Two requests, between which the database's server closes the pool's connection."""
    assert visitor.get("/orders/1").is_success
    url = make_url(visitor.stage.url).set(drivername="postgresql+psycopg")
    killer = create_engine(url, isolation_level="AUTOCOMMIT")
    with killer.connect() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {others}"))
    killer.dispose()
    visitor.get("/orders/1")


def in_two_rounds(visitor: Visitor) -> None:
    """Concurrent requests, and more of them when all of the first have ended: those that overlap prove nothing."""
    for _ in range(2):
        concurrently("/orders/7")(visitor)
        visitor.until_quiet()


def by_two_at_once(visitor: Visitor) -> None:
    """Two requests at once, for two orders."""
    assert all(answer.is_success for answer in visitor.all(["/orders/1", "/orders/2"], clients=2))


def with_one_turned_away(visitor: Visitor) -> None:
    """Two requests at once, of which the pool may turn one away."""
    answers = visitor.many("/reports", 2, clients=2)
    assert any(answer.is_success for answer in answers)


@dataclass(frozen=True)
class Mistake:
    """How to make a mistake happen, and what else is true of the faulty app."""

    apps: ModuleType
    visit: Callable[[Visitor], None]
    method: str = "GET"
    route: str = "/orders/{number}"
    options: dict[str, Any] = field(default_factory=dict)
    databases: tuple[str, ...] = (*SYNC, *ASYNC)
    also: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name of the finding."""
        return self.apps.__name__.rpartition(".")[2]


POSTGRES = tuple(name for name in (*SYNC, *ASYNC) if name.startswith("postgres"))
MISTAKES = (
    Mistake(leaked_connection, concurrently("/orders/7")),
    Mistake(engine_per_request, in_two_rounds),
    Mistake(blocked_event_loop, concurrently("/orders/7"), databases=SYNC),
    Mistake(stale_connection, while_the_server_closes_what_is_idle, databases=POSTGRES),
    Mistake(shared_session, by_two_at_once, also=frozenset({"leaked_connection"})),
    Mistake(lost_write, concurrently("/orders", method="POST"), method="POST", route="/orders"),
    Mistake(nested_checkout, concurrently("/orders/7")),
    Mistake(idle_hold, concurrently("/orders/7"), options={"idle_hold_seconds": 0.1}),
    Mistake(repeated_statement, concurrently("/customers"), route="/customers"),
    Mistake(slow_checkout, concurrently("/reports", times=4), route="/reports", options={"slow_checkout_seconds": 0.2}),
    Mistake(checkout_timeout, with_one_turned_away, route="/reports", also=frozenset({"idle_hold", "slow_checkout"})),
)
CASES = [
    pytest.param(mistake, database, id=f"{mistake.name}-{database}")
    for mistake in MISTAKES
    for database in mistake.databases
    # Their engines take the options of a queue.
    if not (OLD_SQLALCHEMY and database == "sqlite-aiosqlite" and mistake.name in ("slow_checkout", "checkout_timeout"))
]


def twin(mistake: Mistake, kind: str, database: str) -> Any:
    """The faulty or corrected builder for a database's driver."""
    return getattr(mistake.apps, f"{kind}_{'async' if database in ASYNC else 'sync'}")


def test_every_mistake_that_is_proven_at_run_time_has_an_app() -> None:
    assert {mistake.name for mistake in MISTAKES} == set(FINDINGS) - {"risky_configuration"}


@pytest.mark.parametrize(("mistake", "database"), CASES)
def test_a_mistake_is_found_with_its_route_and_its_line(
    mistake: Mistake, database: str, stage: StageApp, numbers: Numbers
) -> None:
    build = twin(mistake, "faulty", database)
    with stage(database, build, **mistake.options) as visitor:
        mistake.visit(visitor)
        findings = visitor.findings()
        proven = [finding for finding in findings if finding.finding == mistake.name]
        assert proven, findings
        assert {(finding.method, finding.route) for finding in proven} == {(mistake.method, mistake.route)}
        assert {place(finding.lines[0]) for finding in proven} == set(guilty_lines(build))
        assert {finding.finding for finding in findings} <= {mistake.name} | mistake.also
        assert all(finding.request and finding.pool for finding in proven)
        labels = {"finding": mistake.name, "method": mistake.method, "route": mistake.route}
        assert numbers("dbwatch_findings_total", **labels) == len(proven)
        assert numbers("dbwatch_findings_total") == len(findings)


@pytest.mark.parametrize(("mistake", "database"), CASES)
def test_nothing_is_found_in_the_corrected_twin(
    mistake: Mistake, database: str, stage: StageApp, numbers: Numbers
) -> None:
    with stage(database, twin(mistake, "corrected", database), **mistake.options) as visitor:
        mistake.visit(visitor)
        assert visitor.findings() == ()
    # And nothing when the app has shut down.
    assert visitor.findings() == ()
    assert numbers("dbwatch_findings_total") == 0
