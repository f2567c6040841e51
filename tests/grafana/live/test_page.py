"""A leak pages somebody before it makes the first request fail: Prometheus, Alertmanager and PostgreSQL are real."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from dbwatch.outputs.grafana.rules import rule_files
from dbwatch.outputs.grafana.thresholds import RuleOptions
from demo_app.postgres import EmbeddedPostgres
from tests.conftest import StartPrometheus
from tests.grafana.live.pager import alertmanager, webhook
from tests.servers.asgi import UvicornProcess
from tests.servers.prometheus import Prometheus

#: The pool has 8 connections and a timeout of 5 s; one leaks every two seconds, and a request needs two at once.
SECONDS_BETWEEN_LEAKS, LEAKS, SECONDS_TO_FAIL = 2.0, 8, 60.0


def _shortened_rules(directory: Path) -> list[Path]:
    """The rules as they are, with seconds instead of minutes for an alert to become firing."""
    paths = []
    for name, text in rule_files(RuleOptions()).items():
        path = directory / name
        path.write_text(re.sub(r"^( +for:) \S+$", r"\1 2s", text, flags=re.MULTILINE))
        paths.append(path)
    return paths


def _send_alerts(server: Prometheus, directory: Path, address: str) -> None:
    """Prometheus reads its configuration again, with the address of the Alertmanager in it."""
    path = directory / "prometheus.yml"
    configuration = json.loads(path.read_text("utf-8"))
    configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
    path.write_text(json.dumps(configuration))
    httpx.post(f"{server.url}/-/reload", trust_env=False).raise_for_status()


def _leak_until_a_request_fails(url: str) -> float:
    """The Unix time of the first request that failed."""
    leaked, next_leak = 0, 0.0
    deadline = time.monotonic() + SECONDS_TO_FAIL
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        while time.monotonic() < deadline:
            if leaked < LEAKS and time.monotonic() > next_leak:
                next_leak = time.monotonic() + SECONDS_BETWEEN_LEAKS
                leaked += 1
                assert client.get("/leak").status_code == 200
            if client.get("/work").status_code != 200:
                return time.time()
            time.sleep(0.2)
    raise AssertionError("no request failed, though the pool leaks")


def test_the_page_arrives_before_the_first_request_fails(
    postgres: EmbeddedPostgres,
    uvicorn_process: Callable[..., UvicornProcess],
    prometheus: StartPrometheus,
    tmp_path: Path,
) -> None:
    app = uvicorn_process("tests.grafana.live.trouble:app", env={"DATABASE_URL": postgres.url("psycopg")})
    server = prometheus(app.address, rules=_shortened_rules(tmp_path))
    with webhook() as pager, alertmanager(tmp_path, pager) as address:
        _send_alerts(server, tmp_path, address)
        server.wait_for('count(dbwatch_pool_limit{pool="main"})')
        failed = _leak_until_a_request_fails(app.url)

        assert pager.pages, "nobody was paged"
        paged, page = pager.pages[0]
        assert paged < failed
        assert page["labels"]["alertname"] == "DBPoolExhaustionPredicted"
        assert page["labels"]["severity"] == "critical"
        assert page["labels"]["pool"] == "main"
        assert "no connection is left in" in page["annotations"]["description"]
        assert page["annotations"]["runbook_url"].endswith("/DBPoolExhaustionPredicted.md")
