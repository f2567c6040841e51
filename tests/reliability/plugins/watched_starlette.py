"""Every Starlette app of the run behind dbwatch's middleware, outermost; at the end it says what it has seen."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from dbwatch import DBWatchMiddleware, middleware
from dbwatch.ledger import LEDGER

_registry = CollectorRegistry()
_build, _begin = Starlette.build_middleware_stack, middleware._begin
_seen = 0


def _watched_stack(app: Starlette) -> Any:
    return DBWatchMiddleware(_build(app), registry=_registry, metrics_path=None)


def _counted_begin(*arguments: Any) -> Any:
    global _seen
    _seen += 1
    return _begin(*arguments)


def pytest_sessionstart() -> None:
    Starlette.build_middleware_stack = _watched_stack  # type: ignore[method-assign, assignment]
    middleware._begin = _counted_begin


def pytest_sessionfinish(session: pytest.Session) -> None:
    LEDGER.fold()
    errors = LEDGER.accumulators.counters["dbwatch_internal_errors_total"].values()
    said = {"seen": _seen, "errors": sum(each.value for each in errors)}
    Path(os.environ["DBWATCH_SAID"]).write_text(json.dumps(said))
