"""By OTLP to a receiver: from this process, and from the demo as a user starts it."""

import sys
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from sqlalchemy import QueuePool, create_engine, text

import dbwatch
from tests.app.scrape import OPENMETRICS, Scrape
from tests.otel.conftest import Exported
from tests.otel.test_metrics import conventions
from tests.servers.otlp import OTLPReceiver, otlp_receiver
from tests.servers.program import ServerProcess
from tests.servers.waiting import eventually


def attributes(point: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value for each in point.attributes}


def test_the_metrics_of_the_conventions_arrive_by_otlp(exported: Exported) -> None:
    with otlp_receiver() as receiver:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver.url}/v1/metrics"), 3_600_000)
        exported.meters.add_metric_reader(reader)
        engine = create_engine("sqlite://", poolclass=QueuePool)
        dbwatch.watch(engine, name="primary")
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            assert reader.force_flush()
        arrived = receiver.metrics()
        assert set(conventions()) - {"db.client.connection.use_time"} <= set(arrived)
        states = {
            attributes(point)["db.client.connection.state"]: point.as_int
            for point in arrived["db.client.connection.count"].sum.data_points
        }
        assert states == {"used": 1, "idle": 0}
        engine.dispose()
        exported.meters.remove_metric_reader(reader)
        reader.shutdown()


def test_the_demo_sends_traces_and_metrics_and_its_exemplars_lead_to_those_traces(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        demo = ServerProcess(
            [
                *(sys.executable, "-m", "demo_app", "--otel", "--port=0", "--no-load"),
                *("--database-url", f"sqlite:///{tmp_path / 'shop.db'}"),
            ],
            log=tmp_path / "log",
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
                "OTEL_BSP_SCHEDULE_DELAY": "200",
                "OTEL_METRIC_EXPORT_INTERVAL": "500",
            },
        )
        try:
            demo.wait_until(lambda: "Ctrl-C stops everything." in demo.output)
            assert f"OTLP      {receiver.url}" in demo.output
            url = next(line.split()[1] for line in demo.output.splitlines() if line.startswith("Shop"))
            _visit_and_look(url, receiver)
        finally:
            demo.stop()


def _visit_and_look(url: str, receiver: OTLPReceiver) -> None:
    with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
        for number in range(1, 6):
            client.get(f"/sync/products/{number}").raise_for_status()
            client.get(f"/async/products/{number}").raise_for_status()
        page = client.get("/metrics", headers={"Accept": OPENMETRICS}).raise_for_status().text
    spans = eventually(lambda: _server_spans(receiver))
    for span in spans:
        said = {each.key: each.value for each in span.attributes}
        assert said["dbwatch.request.checkouts"].int_value == 1
        assert said["dbwatch.request.hold"].double_value > 0
    known = {span.trace_id.hex() for span in spans}
    linked = {
        sample.exemplar.labels["trace_id"]
        for sample in Scrape(page, openmetrics=True).samples("dbwatch_hold_seconds_bucket")
        if sample.exemplar
    }
    assert linked
    assert linked <= known
    eventually(lambda: set(conventions()) <= set(receiver.metrics()))


def _server_spans(receiver: OTLPReceiver) -> list[Span]:
    spans = [span for span in receiver.spans() if span.kind == Span.SPAN_KIND_SERVER]
    assert len(spans) == 10
    return spans
