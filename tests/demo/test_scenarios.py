"""Every scenario: its mistake is found at the line that the file marks, and its correction is not accused."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

import dbwatch
from dbwatch.catalog import FINDINGS
from dbwatch.facts import Finding
from demo_app.postgres import EmbeddedPostgres
from demo_app.scenarios import SCENARIOS, background_task, http_call, pool_too_small
from demo_app.scenarios.scenario import Scenario, Variant
from tests.demo.conftest import client, shop_app
from tests.servers.asgi import serve
from tests.servers.waiting import eventually

pytestmark = pytest.mark.filterwarnings(
    # What SQLAlchemy, the drivers and Python themselves say about a connection that was dropped.
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

#: On a busy machine anything may take half a second: what a scenario is not about must take far longer to be found.
_NEVER = "60"
_SLOW_CHECKOUT = {
    ("pool-too-small", "broken"): "2.0",
    ("pool-too-small", "fixed"): "2.0",
    ("slow-query", "broken"): "0.3",
    ("slow-query", "fixed"): "3.0",
}
_IDLE_HOLD = {"http-call": "1.3", "background-task": "1.3"}
#: Requests at once. Ninety of 0.5 s each wait up to 2.5 s for one of 15 connections, and 1 s for one of 30.
_REPORT = text("SELECT count(*) FROM demo_orders, pg_sleep(0.5)")
_AT_ONCE = {"pool-too-small": 90, "slow-query": 40, "nested-checkout": 20, "overflow-churn": 6}

PROVEN = [scenario for scenario in SCENARIOS.values() if scenario.findings]
CORRECT = [
    (scenario, variant)
    for scenario in SCENARIOS.values()
    for variant in scenario.variants
    if variant.name in {"fixed", "plain-def"}
]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of our own, because one scenario restarts it."""
    with EmbeddedPostgres(settings={"max_connections": "200"}) as server:
        yield server


Play = Callable[[Scenario, Variant], list[Finding]]


@pytest.fixture
def play(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Serves a variant, sends it requests, and returns what dbwatch found."""
    monkeypatch.setattr(http_call, "SUPPLIER_SECONDS", 1.5)
    monkeypatch.setattr(background_task, "MAIL_SECONDS", 1.5)
    monkeypatch.setattr(pool_too_small, "REPORT", _REPORT)

    def run(scenario: Scenario, variant: Variant) -> list[Finding]:
        monkeypatch.setenv("DBWATCH_IDLE_HOLD_SECONDS", _IDLE_HOLD.get(scenario.name, _NEVER))
        monkeypatch.setenv("DBWATCH_SLOW_CHECKOUT_SECONDS", _SLOW_CHECKOUT.get((scenario.name, variant.name), _NEVER))
        started = time.time()
        settings: dict[str, object] = {key.lower(): value for key, value in variant.settings.items()}
        # Only a deadlock runs into the timeout of the pool; everywhere else it would tell how busy the machine is.
        settings["pool_timeout"] = 1.0 if scenario.name == "nested-checkout" else 30.0
        app = shop_app(server.url(), scenario=scenario.name, scenario_variant=variant.name, **settings)
        with serve(app) as url, client(url) as visitor:
            _visit(scenario, visitor)
            if scenario.restarts:
                server.restart()
                _visit(scenario, visitor)
        dbwatch.settle(10)
        return [finding for finding in dbwatch.findings() if finding.at >= started]

    return run


def _visit(scenario: Scenario, visitor: httpx.Client) -> None:
    """So many requests at once, and then some in turn, for what only a later request can prove: a client has its answer
    a little before a request has ended, and the first of them may still be too early.
    """
    load = scenario.load
    number = _AT_ONCE.get(scenario.name, 4)
    paths = [load.paths[index % len(load.paths)] for index in range(number)]
    with ThreadPoolExecutor(number) as pool:
        list(pool.map(lambda path: visitor.request(load.method, path), paths))
    for _ in range(3):
        visitor.request(load.method, load.paths[0])


@pytest.mark.parametrize("scenario", PROVEN, ids=lambda scenario: scenario.name)
def test_a_mistake_is_found_at_the_line_that_its_file_marks(scenario: Scenario, play: Play) -> None:
    found = {
        (finding.finding, finding.lines[0].partition(" ")[0])
        for finding in play(scenario, scenario.broken)
        if finding.lines
    }
    assert found & {(finding, place) for finding in scenario.findings for place in scenario.marked}, found


@pytest.mark.parametrize(
    ("scenario", "variant"), CORRECT, ids=[f"{scenario.name}-{variant.name}" for scenario, variant in CORRECT]
)
def test_a_correction_is_accused_of_nothing(scenario: Scenario, variant: Variant, play: Play) -> None:
    assert play(scenario, variant) == []


def test_every_mistake_that_can_be_found_has_a_scenario() -> None:
    shown = set().union(*(scenario.findings for scenario in PROVEN))
    assert shown == set(FINDINGS) - {"risky_configuration"}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_a_file_marks_lines_if_and_only_if_dbwatch_names_them(scenario: Scenario) -> None:
    assert bool(scenario.marked) == bool(scenario.findings)
    assert scenario.description
    routes = {tuple(getattr(route, "path", "") for route in variant.router.routes) for variant in scenario.variants}
    assert len(routes) == 1, "the variants are the same endpoint"


def test_connections_of_the_overflow_are_opened_again_and_again(server: EmbeddedPostgres) -> None:
    opened = {}
    scenario = SCENARIOS["overflow-churn"]
    for variant in scenario.variants:
        settings = {key.lower(): value for key, value in variant.settings.items()}
        app = shop_app(server.url(), scenario=scenario.name, scenario_variant=variant.name, **settings)
        with serve(app) as url, client(url) as visitor:
            before = _opened(visitor)
            for _ in range(3):
                _visit(scenario, visitor)
            opened[variant.name] = _opened(visitor) - before
    assert opened["broken"] > opened["fixed"]


def _opened(visitor: httpx.Client) -> float:
    def read() -> float:
        lines = visitor.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("dbwatch_connections_opened_total{"))

    return eventually(lambda: (read(),))[0]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_the_documented_table_has_every_variant(scenario: Scenario) -> None:
    page = (Path(__file__).parents[2] / "docs" / "mistakes.md").read_text(encoding="utf-8")
    assert f"**{scenario.mistake}** (`{scenario.name}`)" in page
    for variant in scenario.variants:
        assert f"| {variant.name}: {variant.label} | {scenario.load} |" in page
