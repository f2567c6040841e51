"""OpenTelemetry's FastAPI and SQLAlchemy instrumentation with its SDK: default options, traces and metrics.

Spans go through the batch processor, as in production, to an exporter that throws them away: serialising and sending
them would come on top.
"""

from collections.abc import Sequence

from fastapi import FastAPI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from sqlalchemy import Engine

from benchmarks.otel import attach

TITLE = "OpenTelemetry FastAPI + SQLAlchemy, traces and metrics"


class Discard(SpanExporter):
    """Counts the spans that stand for SQL and throws all of them away."""

    def __init__(self) -> None:
        self.statements = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.statements += sum("db.statement" in (span.attributes or {}) for span in spans)
        return SpanExportResult.SUCCESS


_exporter = Discard()
_processor = BatchSpanProcessor(_exporter)


def instrument(app: FastAPI, engine: Engine) -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(_processor)
    attach(app, engine, tracers, MeterProvider([InMemoryMetricReader()]))


def seen() -> float:
    """Statements among the spans exported."""
    _processor.force_flush()
    return _exporter.statements
