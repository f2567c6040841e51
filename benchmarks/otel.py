"""What both OpenTelemetry variants share: attaching its instrumentation, and reading its metrics."""

from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.trace import TracerProvider
from sqlalchemy import Engine

from benchmarks.variants import UnavailableError


def attach(app: FastAPI, engine: Engine, tracers: TracerProvider, meters: MeterProvider) -> None:
    """Instrument the app and its engine.

    Raises:
        UnavailableError: OpenTelemetry refuses the installed SQLAlchemy, and logs that only.
    """
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(engine=engine, tracer_provider=tracers, meter_provider=meters)
    if not instrumentor.is_instrumented_by_opentelemetry:
        accepted = ", ".join(instrumentor.instrumentation_dependencies())
        raise UnavailableError(f"OpenTelemetry instruments {accepted} only")
    FastAPIInstrumentor.instrument_app(app, tracer_provider=tracers, meter_provider=meters)


def requests_measured(reader: InMemoryMetricReader) -> float:
    """Requests in the HTTP duration histogram."""
    data = reader.get_metrics_data()
    return sum(
        point.count
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "http.server.duration"
        for point in metric.data.data_points
        if isinstance(point, HistogramDataPoint)
    )
