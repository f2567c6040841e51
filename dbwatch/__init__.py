"""Which requests hold the database connections, for how long, and why the pool ran out.

One line watches every SQLAlchemy engine of a FastAPI or Starlette app: ``app.add_middleware(DBWatchMiddleware)``.
"""

from dbwatch.facts import Finding, Holder, PoolAdvice, PoolSnapshot, Remark, RequestTotals
from dbwatch.middleware import DBWatchMiddleware
from dbwatch.readiness import PoolReadiness, Readiness, readiness
from dbwatch.runtime import advice, current_request, findings, flush, install, serve_metrics, settle, snapshot, watch
from dbwatch.settings import ConfigurationError
from dbwatch.version import __version__

__all__ = [
    "ConfigurationError",
    "DBWatchMiddleware",
    "Finding",
    "Holder",
    "PoolAdvice",
    "PoolReadiness",
    "PoolSnapshot",
    "Readiness",
    "Remark",
    "RequestTotals",
    "__version__",
    "advice",
    "current_request",
    "findings",
    "flush",
    "install",
    "readiness",
    "serve_metrics",
    "settle",
    "snapshot",
    "watch",
]
