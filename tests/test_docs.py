"""The pages on OpenTelemetry and on production keep their word: their code runs, their tables are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dbwatch.catalog import METRICS
from tests.servers.otlp import otlp_receiver

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text("utf-8") for name in ("opentelemetry", "production")}


def blocks(page: str, language: str) -> list[str]:
    """The fenced code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def run(code: str, directory: Path, **env: str) -> None:
    """Run Python code in a directory of its own and demand that it succeeds without a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=directory,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("production", "python"), ids=lambda block: block.splitlines()[0])
def test_every_python_block_about_production_runs(block: str, tmp_path: Path) -> None:
    run(block, tmp_path)


def test_the_app_about_opentelemetry_sends_what_the_page_promises(tmp_path: Path) -> None:
    [block] = blocks("opentelemetry", "python")
    visit = (
        "from fastapi.testclient import TestClient\n"
        "from sqlalchemy import create_engine, text\n"
        "engine = create_engine('sqlite:///shop.db')\n"
        "@app.get('/orders')\n"
        "def orders() -> None:\n"
        "    with engine.connect() as connection:\n"
        "        connection.execute(text('SELECT 1'))\n"
        "with TestClient(app) as client:\n"
        "    client.get('/orders').raise_for_status()\n"
        "metrics.get_meter_provider().shutdown()\n"
        "trace.get_tracer_provider().shutdown()\n"
    )
    with otlp_receiver() as receiver:
        run(f"{block}\n{visit}", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
        said = {each.key for span in receiver.spans() for each in span.attributes}
        exported = set(receiver.metrics())
    assert {name for name in said if name.startswith("dbwatch.")} == named("opentelemetry", r"dbwatch\.request\.\w+")
    assert "db.client.connection.wait_time" in exported


def named(page: str, pattern: str) -> set[str]:
    """The names in the first columns of the table of attributes."""
    rows = re.findall(r"^\| (`.*?) \| (?:how|seconds)", PAGES[page], re.MULTILINE)
    return {name for row in rows for name in re.findall(rf"`({pattern})`", row)}


def test_the_tables_name_every_metric_that_is_exported() -> None:
    listed = set(
        re.findall(
            r"^\| `([\w.]+)` \| (?:counter|gauge|histogram|up-down counter) \|", PAGES["opentelemetry"], re.MULTILINE
        )
    )
    exported = {metric.otel for metric in METRICS.values() if metric.otel}
    assert listed == exported | {"dbwatch.checkout.wait", "dbwatch.checkout.ping", "db.client.connection.idle.min"}


def test_the_probe_of_the_page_is_yaml() -> None:
    [block] = blocks("production", "yaml")
    assert yaml.safe_load(block)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8000}


def test_the_line_before_the_server_leaves_no_file_of_an_earlier_run(tmp_path: Path) -> None:
    [block] = blocks("production", "sh")
    looking = """sh -c 'ls -A "$PROMETHEUS_MULTIPROC_DIR"; touch "$PROMETHEUS_MULTIPROC_DIR/counter_7.db"'"""
    line = block.replace("/tmp/shop", str(tmp_path / "shop")).replace("uvicorn shop:app --workers 4", looking)
    for _ in range(2):
        assert subprocess.check_output(line, shell=True, text=True) == ""
    assert (tmp_path / "shop" / "counter_7.db").exists()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page])
    assert links
    assert not [link for link in links if not (DOCS / link).exists()]
