"""The page on OpenTelemetry keeps its word: its app exports what it says, its tables are complete."""

import re
from pathlib import Path

from dbwatch.catalog import METRICS
from tests.documents.pages import PAGES
from tests.documents.test_code import code, run
from tests.servers.otlp import otlp_receiver

PAGE = "docs/opentelemetry.md"
VISIT = """
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text
engine = create_engine("sqlite:///shop.db")
@app.get("/orders")
def orders() -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
with TestClient(app) as client:
    client.get("/orders").raise_for_status()
metrics.get_meter_provider().shutdown()
trace.get_tracer_provider().shutdown()
"""


def test_the_app_sends_what_the_page_promises(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        run(code(PAGE) + VISIT, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
        said = {each.key for span in receiver.spans() for each in span.attributes}
        exported = set(receiver.metrics())
    assert {name for name in said if name.startswith("dbwatch.")} == attributes()
    assert "db.client.connection.wait_time" in exported


def attributes() -> set[str]:
    """The names in the first column of the table of attributes."""
    rows = re.findall(r"^\| (`.*?) \| (?:how|seconds)", PAGES[PAGE], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(dbwatch\.request\.\w+)`", row)}


def test_the_tables_name_every_metric_that_is_exported() -> None:
    row = r"^\| `([\w.]+)` \| (?:counter|gauge|histogram|up-down counter) \|"
    listed = set(re.findall(row, PAGES[PAGE], re.MULTILINE))
    exported = {metric.otel for metric in METRICS.values() if metric.otel}
    assert listed == exported | {"dbwatch.checkout.wait", "dbwatch.checkout.ping", "db.client.connection.idle.min"}
