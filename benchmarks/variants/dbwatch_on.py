"""dbwatch as the README says."""

from fastapi import FastAPI
from sqlalchemy import Engine

from dbwatch import DBWatchMiddleware, flush
from dbwatch.ledger import LEDGER

TITLE = "dbwatch"


def instrument(app: FastAPI, _engine: Engine) -> None:
    app.add_middleware(DBWatchMiddleware)


def seen() -> float:
    """Checkouts and statements of all routes."""
    flush()
    counters = LEDGER.accumulators.counters
    return sum(
        cell.value
        for name in ("dbwatch_request_checkouts_total", "dbwatch_request_statements_total")
        for cell in counters[name].values()
    )
