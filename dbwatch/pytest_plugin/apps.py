"""Requests of apps that do not have the middleware: a test is to find what production does not watch yet."""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dbwatch.middleware import DBWatchMiddleware
from dbwatch.outputs import prometheus

Scope = MutableMapping[str, Any]
Call = Callable[[Any, Scope, Any, Any], Awaitable[None]]

_WRAPPED = "__dbwatch_watches__"


def watch_apps() -> None:
    """Watch every Starlette and FastAPI app that has no middleware of ours. Does nothing as long as Starlette is not
    imported: then there is no app.
    """
    module = sys.modules.get("starlette.applications")
    if module is None or hasattr(module.Starlette.__call__, _WRAPPED):
        return
    module.Starlette.__call__ = _watching(module.Starlette.__call__)


def _watching(original: Call) -> Call:
    async def enter(scope: Scope, receive: Any, send: Any) -> None:
        await original(scope["app"], scope, receive, send)

    # One for all apps. It adds nothing to what they serve.
    watch = DBWatchMiddleware(
        enter,
        enabled=True,
        registry=prometheus.private_registry(),
        metrics_path=None,
        dashboard=None,
        readiness_path=None,
    )

    async def __call__(self: Any, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket") or _has_our_middleware(self):
            await original(self, scope, receive, send)
            return
        scope["app"] = self
        await watch(scope, receive, send)

    setattr(__call__, _WRAPPED, True)
    return __call__


def _has_our_middleware(app: Any) -> bool:
    return any(
        isinstance(added.cls, type)
        and issubclass(added.cls, DBWatchMiddleware)
        and added.kwargs.get("enabled") is not False
        for added in app.user_middleware
    )
