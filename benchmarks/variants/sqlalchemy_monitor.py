"""fastapi-sqlalchemy-monitor as its README says, with one action that reads what it has counted."""

import importlib
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine

TITLE = "fastapi-sqlalchemy-monitor (statements per request)"

# It has no type hints to check against.
_monitor = importlib.import_module("fastapi_sqlalchemy_monitor")
_statements = 0


class Count:
    """Adds up the statements."""

    def handle(self, statistics: Any) -> None:
        global _statements
        _statements += statistics.total_invocations


def instrument(app: FastAPI, engine: Engine) -> None:
    app.add_middleware(_monitor.SQLAlchemyMonitor, engine=engine, actions=[Count()])


def seen() -> float:
    """Statements counted."""
    return _statements
