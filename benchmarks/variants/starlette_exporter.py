"""starlette_exporter as its README says. It sees HTTP only."""

from fastapi import FastAPI
from prometheus_client import REGISTRY
from sqlalchemy import Engine
from starlette_exporter import PrometheusMiddleware

TITLE = "starlette_exporter (HTTP only)"


def instrument(app: FastAPI, _engine: Engine) -> None:
    app.add_middleware(PrometheusMiddleware)


def seen() -> float:
    """Requests counted."""
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "starlette_requests_total"
    )
