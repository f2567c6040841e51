"""What is measured against the bare app: one module for each variant.

Each has ``TITLE``, ``instrument(app, engine)``, called before the first request, and ``seen()``: how many requests or
statements it has recorded since, so that a variant that measures nothing is not mistaken for a cheap one. None means
that there is nothing to record.
"""

import importlib
from typing import Protocol, cast

from fastapi import FastAPI
from sqlalchemy import Engine

#: In the order of the table.
NAMES = (
    "bare",
    "bare_again",
    "no_op_middleware",
    "no_op_hooks",
    "dbwatch_off",
    "dbwatch_on",
    "dbwatch_numbers",
    "dbwatch_viewed",
    "dbwatch_otel",
    "dbwatch_multiprocess",
    "prometheus_instrumentator",
    "starlette_exporter",
    "sqlalchemy_monitor",
    "otel_metrics",
    "otel",
)

#: The exit code of a process whose variant cannot run here; it prints the reason.
UNAVAILABLE = 3


class Variant(Protocol):
    """A module of this package."""

    TITLE: str

    def instrument(self, app: FastAPI, engine: Engine) -> None:
        """Do what a user of the tool would do."""

    def seen(self) -> float | None:
        """Requests or statements recorded so far."""


class UnavailableError(Exception):
    """A variant cannot run here; the message says why."""


def load(name: str) -> Variant:
    """The module of a variant.

    Raises:
        UnavailableError: what it measures is not installed.
    """
    try:
        return cast("Variant", importlib.import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        raise UnavailableError(f"{error.name} is not installed") from error
