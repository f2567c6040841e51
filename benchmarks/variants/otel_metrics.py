"""OpenTelemetry's FastAPI and SQLAlchemy instrumentation, metrics only."""

from fastapi import FastAPI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider
from sqlalchemy import Engine

from benchmarks.otel import attach, requests_measured

TITLE = "OpenTelemetry FastAPI + SQLAlchemy, metrics only"

_reader = InMemoryMetricReader()


def instrument(app: FastAPI, engine: Engine) -> None:
    attach(app, engine, NoOpTracerProvider(), MeterProvider([_reader]))


def seen() -> float:
    """Requests measured."""
    return requests_measured(_reader)
