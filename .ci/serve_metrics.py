"""Serves one request and one scrape with nothing installed but dbwatch and what it depends on."""

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

from dbwatch import DBWatchMiddleware

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

OPTIONAL = ("fastapi", "starlette", "opentelemetry", "click", "grafana_foundation_sdk")
EXPECTED = (
    'dbwatch_checkout_seconds_count{outcome="ok",pool="shop"} 1.0',
    'dbwatch_request_checkouts_total{method="GET",route="(unmatched)"} 1.0',
    "dbwatch_build_info{",
)

engine = create_engine("sqlite://", poolclass=QueuePool, pool_logging_name="shop")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """An app without a framework: one query at /, and 404 elsewhere."""
    found = scope["path"] == "/"
    if found:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def get(path: str) -> str:
    """The body of the answer to a GET request."""
    body = b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal body
        body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await watched(scope, receive, send)
    return body.decode()


async def main() -> None:
    """One request, then one scrape."""
    await get("/")
    metrics = await get("/metrics")
    missing = [line for line in EXPECTED if line not in metrics]
    assert not missing, f"{missing} is not in the metrics:\n{metrics}"


installed = [name for name in OPTIONAL if importlib.util.find_spec(name)]
assert not installed, f"installed without having been asked for: {installed}"
watched = DBWatchMiddleware(app)
asyncio.run(main())
print("The wheel serves its metrics with no extra installed.")
