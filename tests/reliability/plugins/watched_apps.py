"""Every Starlette and FastAPI app behind dbwatch's middleware, outermost; at the end it says what it has seen."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from dbwatch import DBWatchMiddleware, middleware
from dbwatch.ledger import LEDGER

_registry = CollectorRegistry()
_begin = middleware._begin
_seen = 0


def _watch(kind: type[Starlette]) -> None:
    build = kind.build_middleware_stack

    def watched_stack(app: Starlette) -> Any:
        return DBWatchMiddleware(build(app), registry=_registry, metrics_path=None)

    kind.build_middleware_stack = watched_stack  # type: ignore[method-assign, assignment]


def _counted_begin(*arguments: Any) -> Any:
    global _seen
    _seen += 1
    return _begin(*arguments)


def pytest_sessionstart() -> None:
    for kind in (Starlette, FastAPI):  # the latter has a method of its own
        _watch(kind)
    middleware._begin = _counted_begin


def pytest_sessionfinish(session: pytest.Session) -> None:
    LEDGER.fold()
    errors = LEDGER.accumulators.counters["dbwatch_internal_errors_total"].values()
    said = {"seen": _seen, "errors": sum(each.value for each in errors)}
    Path(os.environ["DBWATCH_SAID"]).write_text(json.dumps(said))
