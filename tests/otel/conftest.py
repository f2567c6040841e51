"""Providers of the SDK for the length of a test, without making them the process's own: that can be done only once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from dbwatch import runtime
from dbwatch.findings import FOUND
from dbwatch.ledger import LEDGER
from dbwatch.telemetry import TELEMETRY
from tests.core.numbers import start_anew


@dataclass
class Exported:
    """What the app's OpenTelemetry has got so far."""

    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        self.meters = MeterProvider([self.reader])
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def metrics(self, scope: str = "dbwatch") -> dict[str, Metric]:
        """The metrics of one library, by name, collected now."""
        data = self.reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for library in resource.scope_metrics
            if library.scope.name == scope
            for metric in library.metrics
        ]
        assert len(found) == len({metric.name for metric in found})
        return {metric.name: metric for metric in found}

    def value(self, name: str, **attributes: str) -> float:
        """The value of a counter or gauge, or the count of a histogram; attributes with ``_`` for ``.``."""
        total = 0.0
        for point in self.metrics()[name].data.data_points:
            found = {key.replace(".", "_"): value for key, value in (point.attributes or {}).items()}
            if attributes.items() <= found.items():
                total += point.value if isinstance(point, NumberDataPoint) else point.count
        return total

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        """The spans that have ended."""
        return [span for span in self.exporter.get_finished_spans() if kind is None or span.kind is kind]

    def server_span(self) -> ReadableSpan:
        """The only server span."""
        [span] = self.spans(SpanKind.SERVER)
        return span


Configure = Callable[[], Exported]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Configures providers when it is called; dbwatch has joined none before, and joins these at its next chance."""
    start_anew()
    for owner, name, value in (
        (LEDGER, "observers", ()),
        (FOUND, "witnesses", ()),
        (TELEMETRY, "metrics", None),
        (TELEMETRY, "traces", None),
    ):
        monkeypatch.setattr(owner, name, value)
    made: list[Exported] = []

    def make() -> Exported:
        exported = Exported()
        made.append(exported)
        monkeypatch.setattr(metrics, "get_meter_provider", lambda: exported.meters)
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: exported.tracers)
        return exported

    yield make
    for exported in made:
        exported.meters.shutdown()
        exported.tracers.shutdown()


@pytest.fixture
def exported(configure: Configure) -> Iterator[Exported]:
    """Providers that dbwatch has joined."""
    exported = configure()
    runtime.join_opentelemetry()
    yield exported
    LEDGER.fold()
    assert not internal_errors()


def internal_errors() -> dict[Any, float]:
    """Errors of dbwatch since the test began, by site."""
    counters = LEDGER.accumulators.counters["dbwatch_internal_errors_total"]
    return {labels: cell.value for labels, cell in counters.items() if cell.value}
