"""Where no provider is configured, nothing of OpenTelemetry is used, and nothing of the output is even imported."""

import subprocess
import sys

APP = """
import asyncio, sys
from sqlalchemy import create_engine, text, QueuePool
import dbwatch
from dbwatch.ledger import LEDGER
from dbwatch.telemetry import TELEMETRY

engine = create_engine("sqlite://", poolclass=QueuePool)

async def app(scope, receive, send):
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def send(message): ...

def visit(watched):
    scope = {"type": "http", "method": "GET", "path": "/orders", "headers": [], "query_string": b""}
    asyncio.run(watched(scope, None, send))
"""
UNUSED = """
watched = dbwatch.DBWatchMiddleware(app)
visit(watched)
dbwatch.flush()
assert LEDGER.accumulators.histograms["dbwatch_hold_seconds"]
assert TELEMETRY.metrics is None and TELEMETRY.traces is None and LEDGER.observers == ()
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
"""
NOT_IMPORTED = """
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
assert "dbwatch.outputs.opentelemetry" not in sys.modules
"""
CONFIGURE = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
"""
LOOK = """
data = reader.get_metrics_data()
names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics} if data else set()
"""


def run(*parts: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join((APP, *parts))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_without_a_provider_nothing_is_used_whether_or_not_the_app_imports_the_api() -> None:
    run(UNUSED, NOT_IMPORTED, "import opentelemetry.trace, opentelemetry.metrics", UNUSED)


def test_a_provider_that_a_worker_configures_after_the_installation_is_found() -> None:
    run(
        "dbwatch.install()",
        CONFIGURE,
        "with engine.connect() as connection: connection.execute(text('SELECT 1'))",
        LOOK,
        'assert {"db.client.connection.wait_time", "db.client.connection.use_time"} <= names',
    )


def test_the_option_leaves_a_provider_alone_until_a_middleware_without_it_comes() -> None:
    run(
        CONFIGURE,
        *("visit(dbwatch.DBWatchMiddleware(app, opentelemetry=False))", LOOK, "assert not names"),
        *("visit(dbwatch.DBWatchMiddleware(app))", LOOK, 'assert "db.client.connection.wait_time" in names'),
    )
