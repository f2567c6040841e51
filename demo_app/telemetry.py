"""The shop with OpenTelemetry beside dbwatch, as a team would set it up: SDK, OTLP, and the usual instrumentation."""

import os
from typing import TYPE_CHECKING

from fastapi import FastAPI
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from demo_app.app import create_app as create_shop

if TYPE_CHECKING:
    from demo_app.database import Database

#: Where OTLP goes; without it, traces and metrics are made and go nowhere.
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def create_app() -> FastAPI:
    """Configure OpenTelemetry for this process and build the shop with its instrumentation."""
    resource = Resource.create({SERVICE_NAME: "dbwatch-demo-shop"})
    tracers = TracerProvider(resource=resource)
    readers: list[MetricReader] = []
    if os.environ.get(ENDPOINT):
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider(readers, resource=resource))
    app = create_shop()
    database: Database = app.state.database
    FastAPIInstrumentor.instrument_app(app, excluded_urls="/metrics,/health")
    # Refuses SQLAlchemy 2.1, and says so in one line; dbwatch goes on without it.
    SQLAlchemyInstrumentor().instrument(engines=[database.engine, database.async_engine.sync_engine])
    return app
