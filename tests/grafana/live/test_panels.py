"""Every panel shows data, and every other expression runs, on a real Prometheus after every kind of trouble."""

import math
import time
from collections.abc import Callable

import httpx
import pytest

from demo_app.postgres import EmbeddedPostgres
from tests.conftest import StartPrometheus
from tests.grafana.expressions import ROOT, Expression, dashboard_expressions, rule_expressions, runbook_expressions
from tests.servers.asgi import UvicornProcess
from tests.servers.prometheus import Prometheus

RULES = sorted((ROOT / "grafana" / "prometheus" / "rules").iterdir())
#: Series that stay empty when all is well with dbwatch itself.
EMPTY = {
    "dbwatch-overview, panel 'Internal errors by place'",
}
#: One round of trouble. What blocks or cuts connections comes when nothing else needs them.
ROUND = ("healthy", "unbounded", "work", "block", "crowd", "leak", "forget", "unreachable", "cut", "work")
ROUNDS, SECONDS_A_ROUND = 8, 1.0


def _make_trouble(url: str) -> None:
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        for number in range(ROUNDS):
            began = time.monotonic()
            for path in ROUND:
                assert client.get(f"/{path}").status_code == 200, path
            if number == ROUNDS // 2:
                client.get("/give_back")
            if number == ROUNDS - 2:
                client.get("/many_pools")
            time.sleep(max(0.0, SECONDS_A_ROUND - (time.monotonic() - began)))


@pytest.fixture
def scraped(
    postgres: EmbeddedPostgres, uvicorn_process: Callable[..., UvicornProcess], prometheus: StartPrometheus
) -> tuple[Prometheus, float]:
    """A Prometheus that has scraped the trouble, and when that began."""
    app = uvicorn_process("tests.grafana.live.trouble:app", env={"DATABASE_URL": postgres.url("psycopg")})
    # By another name of the same address: a target is a job.
    exporter = app.address.replace("127.0.0.1", "localhost")
    server = prometheus(app.address, f"{exporter}/server_settings", rules=RULES)
    server.wait_for('count(dbwatch_pool_size{pool="main"})')
    began = time.time()
    _make_trouble(app.url)
    return server, began


def _has_data(server: Prometheus, expression: Expression, began: float) -> bool:
    series = server.query_range(expression.runnable, began, time.time())
    return any(not math.isnan(value) for each in series for _, value in each.points)


def test_every_panel_shows_data_after_every_kind_of_trouble(scraped: tuple[Prometheus, float]) -> None:
    server, began = scraped
    server.wait_for('count(ALERTS{alertname="DBPoolFinding",alertstate="firing"})')
    empty = [expression.where for expression in dashboard_expressions() if not _has_data(server, expression, began)]
    assert set(empty) == EMPTY, empty


def test_every_rule_and_every_query_of_a_runbook_runs(scraped: tuple[Prometheus, float]) -> None:
    server, began = scraped
    recorded = [expression for expression in rule_expressions() if ":" in expression.where]
    for expression in (*rule_expressions(), *runbook_expressions()):
        server.query(expression.runnable)
    server.wait_for('count({__name__=~"(job|instance)_pool:.+"})')
    for expression in recorded:
        name = expression.where.removeprefix("rule ")
        assert _has_data(server, Expression(expression.where, name), began), name
    assert "err" not in {rule["health"] for rule in _rules(server)}


def _rules(server: Prometheus) -> list[dict[str, str]]:
    groups = httpx.get(f"{server.url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]
