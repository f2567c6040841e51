"""An error of the OpenTelemetry output reaches nobody but the log."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from sqlalchemy import QueuePool, create_engine, text

import dbwatch
import dbwatch.outputs.opentelemetry  # for the sites of its guards
from dbwatch import DBWatchMiddleware, guard, runtime
from dbwatch.ledger import LEDGER
from tests.bookkeeping.test_faults import failing_first, instead
from tests.otel.conftest import Configure, internal_errors

SITES = sorted(site for site in guard.SITES if site.startswith(("opentelemetry.", "telemetry.")))


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}", poolclass=QueuePool)
    dbwatch.watch(engine, name="shop")
    kept: list[Any] = []
    app = FastAPI()

    @app.get("/leak")
    def leak() -> str:
        connection = engine.connect()
        connection.execute(text("SELECT 1"))
        kept.append(connection)
        with engine.connect():
            return "fine"

    app.add_middleware(DBWatchMiddleware, metrics_path=None)
    yield app
    kept.pop().close()
    engine.dispose()


@pytest.mark.parametrize("site", SITES)
def test_an_error_at_any_site_is_counted_and_the_app_answers(site: str, app: FastAPI, configure: Configure) -> None:
    with instead(site, failing_first):
        exported = configure()
        runtime.join_opentelemetry()
        FastAPIInstrumentor.instrument_app(app, tracer_provider=exported.tracers, meter_provider=exported.meters)
        with TestClient(app) as client:
            assert client.get("/leak").json() == "fine"
        assert dbwatch.settle(20.0)
        exported.metrics()
        LEDGER.fold()
    assert set(internal_errors()) == {(site,)}
    assert LEDGER.accumulators.counters["dbwatch_leaks_total"]["shop", "request_end"].value == 1
    assert dbwatch.findings()
