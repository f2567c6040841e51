"""The page's paths below the one that was chosen: the page itself, its files, the state as JSON, and its updates."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from dbwatch.guard import guarded, note
from dbwatch.outputs.live.access import Answer, Credentials, Decide, admit
from dbwatch.outputs.live.report import Source
from dbwatch.outputs.live.sampler import UPDATE_HISTORY, sampler_for
from dbwatch.outputs.live.workers import check_directory

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: Seconds after which an update stream ends and the page asks for the next one: a server that shuts down waits for its
#: streams, and not every server lets us see that it does.
STREAM_SECONDS: Final = 10.0

_SCRIPT: Final = b"text/javascript; charset=utf-8"
_TYPES: Final = {
    "page.html": b"text/html; charset=utf-8",
    "page.css": b"text/css; charset=utf-8",
    "uplot.css": b"text/css; charset=utf-8",
    "icon.svg": b"image/svg+xml",
    "uplot-license.txt": b"text/plain; charset=utf-8",
    "uplot.js": _SCRIPT,
    "page.js": _SCRIPT,
    "dom.js": _SCRIPT,
    "format.js": _SCRIPT,
    "charts.js": _SCRIPT,
    "pools.js": _SCRIPT,
    "tables.js": _SCRIPT,
    "findings.js": _SCRIPT,
    "stream.js": _SCRIPT,
}
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURE: Final[Headers] = [
    (b"content-security-policy", _POLICY),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
_NO_STORE: Final = (b"cache-control", b"no-store")


class LivePage:
    """The live page at one path.

    Raises:
        ConfigurationError: ``state_dir`` cannot be used.
    """

    def __init__(self, path: str, auth: "Decide | Credentials | None", state_dir: str, source: Source) -> None:
        if state_dir:
            check_directory(state_dir)
        self._path = path
        self._auth = auth
        self._sampler = sampler_for(source, state_dir)
        self._files: dict[str, bytes] = {}

    def owns(self, path: str) -> bool:
        """True if the path is the page's or below it."""
        return path == self._path or path.startswith(f"{self._path}/")

    @guarded("live.start")
    def start(self) -> None:
        """Start sampling in this process, if that has not happened yet."""
        self._sampler.start()

    @guarded("live.stopped")
    def stopped(self) -> None:
        """The server is shutting down."""
        self._sampler.stopped()

    async def handle(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request to a path that is the page's."""
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = True
            if scope["method"] == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._answer(path[len(self._path) :], scope, receive, noting_send)
        except TimeoutError as error:  # an OSError since 3.11, but no sign of a client that is gone
            note("live.page", error)
            if not begun:
                await _reply(send, 503, b"dbwatch has no state to show yet; if that lasts, its log says why.\n")
        except OSError:
            return  # the client is gone
        except Exception as error:  # noqa: BLE001  an error of ours is counted, and never one of the app's
            note("live.page", error)
            if not begun:
                await _reply(send, 500, b"dbwatch failed here; its log says why.\n")

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._admit(scope)
        if answer is Answer.ASK:
            await _reply(send, 401, b"", (b"www-authenticate", b'Basic realm="dbwatch", charset="UTF-8"'))
        elif answer is Answer.REFUSE:
            await _reply(send, 403, b"")
        elif scope["method"] not in ("GET", "HEAD"):
            await _reply(send, 405, b"", (b"allow", b"GET, HEAD"))
        elif path == "":
            # Relative, so that it also leads to the page behind a proxy that takes a prefix away.
            await _reply(send, 307, b"", (b"location", f"{self._path.rpartition('/')[2]}/".encode()))
        elif path == "/api/state":
            self.start()
            published = await self._sampler.next(wants_all=True)
            await _reply(send, 200, published.full or b"", (b"content-type", b"application/json"))
        elif path == "/api/events":
            self.start()
            await self._stream(scope, receive, send)
        else:
            await self._file("page.html" if path == "/" else path[1:], send)

    async def _admit(self, scope: Scope) -> Answer:
        try:
            return await admit(scope, self._auth)
        except Exception as error:  # noqa: BLE001  the app's own function decides; if it fails, nobody comes in
            note("live.auth", error)
            return Answer.REFUSE

    async def _file(self, name: str, send: Send) -> None:
        kind = _TYPES.get(name)
        if kind is None:
            await _reply(send, 404, b"")
            return
        body = self._files.get(name)
        if body is None:
            static = files("dbwatch.outputs.live").joinpath("static")
            body = self._files[name] = await asyncio.to_thread(static.joinpath(name).read_bytes)
        await _reply(send, 200, body, (b"content-type", kind))

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*_SECURE, _NO_STORE, (b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        # Bytes at once: the page learns that it is connected before there is news.
        await send({"type": "http.response.body", "body": b": connected\n\n", "more_body": True})
        updates = asyncio.ensure_future(self._updates(_since(scope), send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((updates, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            updates.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await updates
        if not gone.done() or gone.cancelled():
            await send({"type": "http.response.body", "body": b""})

    async def _updates(self, since: int, send: Send) -> None:
        """Send the state each second. A viewer that has seen one of the last seconds gets the newest part only."""
        ends_at = time.monotonic() + STREAM_SECONDS
        while time.monotonic() < ends_at and not _server_is_stopping():
            behind = time.time() - since > UPDATE_HISTORY - 2
            published = await self._sampler.next(wants_all=behind)
            state = published.full if behind and published.full is not None else published.update
            since = published.number
            body = b"id: %d\nevent: %s\ndata: %s\n\n" % (since, b"all" if behind else b"update", state)
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _since(scope: Scope) -> int:
    """The second of the last state that the viewer has seen, 0 if it has seen none."""
    value = scope.get("query_string", b"").partition(b"since=")[2].partition(b"&")[0]
    return int(value) if value.isdigit() and len(value) < 12 else 0


def _server_is_stopping() -> bool:
    """True if a uvicorn server of this process is told to stop: its signal handler is a method of the server."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


async def _reply(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    every = [*_SECURE, _NO_STORE, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body})
