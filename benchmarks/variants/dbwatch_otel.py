"""dbwatch where the app has configured OpenTelemetry metrics: they go there as well."""

from fastapi import FastAPI
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import Engine

from benchmarks.variants import dbwatch_on
from dbwatch import runtime

TITLE = "dbwatch, exporting to OpenTelemetry metrics as well"


def instrument(app: FastAPI, engine: Engine) -> None:
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    dbwatch_on.instrument(app, engine)
    runtime.join_opentelemetry()  # as the end of the app's start-up does


seen = dbwatch_on.seen
