"""dbwatch while somebody looks at its live page."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine

from benchmarks.variants import dbwatch_on
from dbwatch import DBWatchMiddleware

TITLE = "dbwatch, its live page watched"

_SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/dbwatch/api/events",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"host", b"localhost")],
    "client": ("127.0.0.1", 50000),
}
_viewers: list["asyncio.Task[None]"] = []
_received = 0


def instrument(app: FastAPI, _engine: Engine) -> None:
    app.add_middleware(DBWatchMiddleware, dashboard="/dbwatch")
    _viewers.append(asyncio.get_running_loop().create_task(_view(app)))


async def _view(app: FastAPI) -> None:
    never = asyncio.get_running_loop().create_future()

    async def receive() -> MutableMapping[str, Any]:
        return await never  # type: ignore[no-any-return]

    async def send(message: MutableMapping[str, Any]) -> None:
        global _received
        _received += len(message.get("body", b""))

    await app(dict(_SCOPE), receive, send)


def seen() -> float:
    """As without a viewer, if the viewer has been shown something."""
    return dbwatch_on.seen() if _received else 0.0
