"""Requests without a server: the ASGI app is called in this process, so no socket's noise is in the numbers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

ASGIApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]

_HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
]


_REFRESHING = 3


async def request(app: ASGIApp, path: str) -> bytes:
    """One GET, as uvicorn would make it.

    Raises:
        RuntimeError: the answer was not 200, so its cost would mean nothing.
    """
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": _HEADERS.copy(),
        "state": {},
    }
    status = 0
    body = b""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body += message.get("body", b"")

    await app(scope, receive, send)
    if status != 200:
        raise RuntimeError(f"GET {path} answered {status}: {body[:200]!r}")
    return body


async def batch(app: ASGIApp, paths: Iterator[str], size: int, at_once: int = 1) -> float:
    """CPU seconds of this process, all its threads together, for ``size`` requests to the next paths, one after
    another or so many at once.

    Each runs in a task of its own, as a server starts it. A few more go first, unmeasured: since the last batch other
    processes have had the processor's caches.
    """
    for _ in range(1 if at_once > 1 else _REFRESHING):
        await _together(app, paths, at_once)
    began = time.process_time()
    for _ in range(0, size, at_once):
        await _together(app, paths, at_once)
    return time.process_time() - began


async def _together(app: ASGIApp, paths: Iterator[str], at_once: int) -> None:
    loop = asyncio.get_running_loop()
    if at_once == 1:  # gather() has a cost of its own
        await loop.create_task(request(app, next(paths)))
    else:
        await asyncio.gather(*[loop.create_task(request(app, next(paths))) for _ in range(at_once)])
