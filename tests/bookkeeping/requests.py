"""Requests without a server: an endpoint run as an ASGI app behind the middleware."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry

from dbwatch import DBWatchMiddleware

Endpoint = Callable[[], Awaitable[None]]


async def _app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await scope["test.endpoint"]()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class RequestRunner:
    """One middleware for all requests of a test run."""

    def __init__(self) -> None:
        self._watched = DBWatchMiddleware(_app, registry=CollectorRegistry(), metrics_path=None)

    async def __call__(self, endpoint: Endpoint) -> None:
        """Run an endpoint as a request from its begin to its end."""

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_message: MutableMapping[str, Any]) -> None:
            return None

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "test.endpoint": endpoint}
        await self._watched(scope, receive, send)
