"""In a scrape, the observations of the pool's histograms lead to traces that have been exported."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Exemplar
from sqlalchemy import QueuePool, create_engine, text

import dbwatch
from dbwatch import DBWatchMiddleware
from tests.app.scrape import OPENMETRICS, Scrape
from tests.conftest import StartPrometheus
from tests.grafana.expressions import Expression, dashboards, panels
from tests.otel.conftest import Exported
from tests.servers.asgi import serve
from tests.servers.waiting import eventually

HISTOGRAMS = ("dbwatch_checkout_seconds_bucket", "dbwatch_hold_seconds_bucket")


@pytest.fixture
def app(tmp_path: Path, exported: Exported) -> Iterator[FastAPI]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}", poolclass=QueuePool)
    dbwatch.watch(engine, name="shop")
    app = FastAPI()

    @app.get("/orders/{number}")
    def orders(number: int) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    app.add_middleware(DBWatchMiddleware, registry=CollectorRegistry())
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=exported.tracers, meter_provider=exported.meters, excluded_urls="metrics"
    )
    yield app
    engine.dispose()


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def exemplars(client: TestClient, name: str) -> list[Exemplar]:
    page = client.get("/metrics", headers={"Accept": OPENMETRICS}).raise_for_status()
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    return [sample.exemplar for sample in Scrape(page.text, openmetrics=True).samples(name) if sample.exemplar]


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_every_exemplar_leads_to_the_server_span_of_a_trace_that_was_exported(
    name: str, client: TestClient, exported: Exported
) -> None:
    for number in range(20):
        client.get(f"/orders/{number}").raise_for_status()
    known = {
        (format_trace_id(span.context.trace_id), format_span_id(span.context.span_id))
        for span in exported.spans(SpanKind.SERVER)
    }
    found = exemplars(client, name)
    assert found
    for exemplar in found:
        assert (exemplar.labels["trace_id"], exemplar.labels["span_id"]) in known
        assert exemplar.value > 0


def test_an_exemplar_lies_in_its_bucket(client: TestClient) -> None:
    for number in range(20):
        client.get(f"/orders/{number}").raise_for_status()
    page = Scrape(client.get("/metrics", headers={"Accept": OPENMETRICS}).text, openmetrics=True)
    below = 0.0
    for sample in page.samples("dbwatch_hold_seconds_bucket", pool="shop"):
        if sample.exemplar:
            assert below < sample.exemplar.value <= float(sample.labels["le"])
        below = float(sample.labels["le"])


def test_prometheus_has_exemplars_for_the_panels_that_ask_for_them(
    app: FastAPI, exported: Exported, prometheus: StartPrometheus
) -> None:
    asked = [
        Expression(panel["title"], target["expr"]).runnable
        for board in dashboards().values()
        for panel in panels(board)
        for target in panel.get("targets", ())
        if target.get("exemplar")
    ]
    assert asked
    began = time.time()
    with serve(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=30.0) as client:
        server = prometheus(url.removeprefix("http://"))

        def every_panel_has_some() -> set[str]:
            client.get("/orders/7").raise_for_status()
            found = [server.exemplars(expression, began, time.time() + 1) for expression in asked]
            assert all(found)
            return {each["labels"]["trace_id"] for panel in found for series in panel for each in series["exemplars"]}

        linked = eventually(every_panel_has_some, 60.0, every=0.3)
    assert linked <= {format_trace_id(span.context.trace_id) for span in exported.spans(SpanKind.SERVER)}


def test_the_text_format_has_no_exemplars_and_reads_as_before(client: TestClient) -> None:
    client.get("/orders/7").raise_for_status()
    page = client.get("/metrics", headers={"Accept": "text/plain"}).text
    assert "trace_id" not in page
    assert Scrape(page).value("dbwatch_hold_seconds_count", pool="shop") == 1


def test_checkouts_outside_a_trace_leave_no_exemplar(tmp_path: Path, exported: Exported) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'jobs.db'}", poolclass=QueuePool)
    dbwatch.watch(engine, name="jobs")
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    app = FastAPI()
    app.add_middleware(DBWatchMiddleware, registry=CollectorRegistry())
    with TestClient(app) as client:
        assert not exemplars(client, "dbwatch_hold_seconds_bucket")
    engine.dispose()


def test_the_histograms_of_opentelemetry_lead_to_the_same_traces(client: TestClient, exported: Exported) -> None:
    # Facts are folded in batches: what one request folds was measured by others.
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: client.get(f"/orders/{number}"), range(40)))
    traces = {span.context.trace_id for span in exported.spans(SpanKind.SERVER)}
    assert len(traces) == 40
    metrics = exported.metrics()
    for name in ("db.client.connection.wait_time", "db.client.connection.use_time"):
        [point] = metrics[name].data.data_points
        assert point.exemplars
        assert {exemplar.trace_id for exemplar in point.exemplars} <= traces
