"""One ASGI request or websocket at a time, exactly as a test words it: any method, any root_path."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Answer:
    """What the app sent back."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    messages: list[str] = field(default_factory=list)

    def header(self, name: str) -> str:
        """The value of a header that was sent once at most; empty if it was not sent."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, values
        return values[0] if values else ""

    @property
    def text(self) -> str:
        """The body, unpacked."""
        packed = self.header("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()


async def call(
    app: App,
    path: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    root_path: str = "",
    query: str = "",
) -> Answer:
    """Send a request without a body. As servers do, ``path`` includes ``root_path``."""
    answer = Answer()
    finished = asyncio.Event()
    requested = False

    async def receive() -> Message:
        nonlocal requested
        if requested:
            await finished.wait()
            return {"type": "http.disconnect"}
        requested = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        answer.messages.append(message["type"])
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            if not message.get("more_body"):
                finished.set()

    sent = {"host": "shop.example.org", **(headers or {})}
    scope = _scope("http", path, root_path, query, sent) | {"method": method, "http_version": "1.1"}
    await app(scope, receive, send)
    return answer


async def connect(app: App, path: str, *, root_path: str = "") -> Answer:
    """Open a websocket and leave it at once."""
    answer = Answer()
    incoming: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        answer.messages.append(message["type"])

    scope = _scope("websocket", path, root_path, "", {"host": "shop.example.org"}) | {"subprotocols": []}
    await app(scope, receive, send)
    return answer


def _scope(kind: str, path: str, root_path: str, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }
