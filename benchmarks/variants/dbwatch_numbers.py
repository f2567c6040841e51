"""dbwatch without what only its findings need. It has no such switch; this tells what the findings cost."""

from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine

from benchmarks.variants import dbwatch_on
from dbwatch import DBWatchMiddleware, judgement, middleware
from dbwatch.hooks import driver, sessions, unsaved, unwinding
from dbwatch.idling import WATCH
from dbwatch.ledger import LEDGER
from dbwatch.records import Request

TITLE = "dbwatch without what only findings need"


class _Unsuspected(Request):
    """A request of which nobody remembers what it ran."""

    __slots__ = ()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ran = None


def instrument(app: FastAPI, _engine: Engine) -> None:
    part: Any
    for part in (driver, sessions, unsaved, unwinding):
        part.install = _nothing
    facts: Any = judgement
    facts.attempt_ended, facts.hold_ended = LEDGER.attempt_ended, LEDGER.hold_ended
    requests: Any = middleware
    requests.request_ended, requests.Request = LEDGER.request_ended, _Unsuspected
    watch: Any = WATCH
    watch.start = _nothing
    app.add_middleware(DBWatchMiddleware)


def _nothing() -> None:
    pass


def seen() -> float:
    """As with them."""
    return dbwatch_on.seen()
