"""The ASGI middleware: where a request begins and ends, and where the metrics page is served."""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import partial
from threading import Thread, get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from sqlalchemy.exc import InvalidRequestError

from dbwatch import advising, runtime, settings
from dbwatch.context import REQUEST
from dbwatch.guard import guarded
from dbwatch.judgement import refused_concurrency, request_ended
from dbwatch.leaks import judge
from dbwatch.ledger import LEDGER
from dbwatch.outputs.logs import log_slow_request
from dbwatch.outputs.prometheus import Exposition
from dbwatch.readiness import Readiness, readiness
from dbwatch.records import UNMATCHED, Request
from dbwatch.routes import method_label, path_within, route_at_hand, route_of
from dbwatch.settings import Settings
from dbwatch.telemetry import TELEMETRY
from dbwatch.turns import REQUEST_KEY

if TYPE_CHECKING:
    from dbwatch.outputs.live.page import LivePage

logger = logging.getLogger("dbwatch")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
R = TypeVar("R")

#: Marks a scope whose metrics page a dbwatch middleware further out has served.
_SERVED = "dbwatch.metrics_served"


class DBWatchMiddleware:
    """Watches every SQLAlchemy engine of the process and tells which requests hold its connections.

    ``app.add_middleware(DBWatchMiddleware)`` is all it takes; the options, each also an environment variable
    ``DBWATCH_<NAME>``, are those of :class:`dbwatch.settings.Settings`. Several middlewares and several apps in one
    process share one set of hooks and counters; of nested ones the outermost watches.

    Raises:
        ConfigurationError: an option is unknown or wrong, the registry already has our names, or the multiprocess
            directory cannot be used. Nothing is raised later.
    """

    def __init__(self, app: ASGIApp, **options: Unpack[settings.Options]) -> None:
        self.app = app
        self.settings = settings.build(options)
        self._metrics_path = self.settings.metrics_path
        self._path_is_chosen = self._metrics_path != settings.METRICS_PATH
        self._excluded = frozenset(path for path in self.settings.exclude if not path.endswith("/*"))
        self._excluded_below = tuple(path[:-1] for path in self.settings.exclude if path.endswith("/*"))
        # Where :meth:`_unwatched_at` has to be asked.
        self._special = self._excluded | {self._metrics_path, self.settings.readiness_path}
        self._special_below = (*self._excluded_below, *filter(None, [self.settings.dashboard]))
        self._exposition: Exposition | None = None
        self._live: LivePage | None = None
        self._path_taken_said = False
        if self.settings.enabled:
            self._exposition = runtime.exposition(self.settings.registry)
            self._live = runtime.live_page(self.settings)
            runtime.configure(self.settings)
            advising.serves_requests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection. Everything but HTTP and websockets passes untouched."""
        kind = scope["type"]
        if self._exposition is None or kind not in {"http", "websocket"}:
            await self.app(scope, receive, self._around_lifespan(send) if kind == "lifespan" else send)
            return
        path = path_within(scope.get("path", ""), scope.get("root_path", ""))
        if path in self._special or path.startswith(self._special_below):
            unwatched = self._unwatched_at(path, scope, self._exposition)
            if unwatched is not None:
                await unwatched(scope, receive, send)
                return
        request = None if REQUEST_KEY in scope else _begin(self.app, scope)
        if request is None:
            await self.app(scope, receive, send)
            return
        token = REQUEST.set(request)
        if kind == "websocket":
            receive, send = _by_message(request, receive), _with_acceptance(request, send)
        try:
            await self.app(scope, receive, _watched(send, request, self.settings))
        except BaseException as error:
            _failed(request, error)
            raise
        finally:
            try:  # noqa: SIM105  suppress() takes longer than all else here
                REQUEST.reset(token)
            except ValueError:  # of a coroutine that is closed in another context, as by the garbage collector
                pass
            _end(request, self.settings)

    def _unwatched_at(self, path: str, scope: Scope, exposition: Exposition) -> ASGIApp | None:
        """What answers at a path without being watched: a page of ours, or the app if the path is excluded."""
        if scope["type"] == "http":
            if path == self._metrics_path and scope["method"] in ("GET", "HEAD"):
                return partial(self._serve_metrics, exposition)
            if path == self.settings.readiness_path and scope["method"] in ("GET", "HEAD"):
                return _answer_readiness
            # The app is not asked first: whoever chose the path left it to us.
            if self._live is not None and self._live.owns(path):
                return partial(self._live.handle, path)
        return self.app if path in self._excluded or path.startswith(self._excluded_below) else None

    def _around_lifespan(self, send: Send) -> Send:
        """``send`` of a lifespan, with what the last second brought written at its end, and the live page's sampling
        begun before. Exit handlers come too late, or never: uvicorn ends its workers by the signal that it was sent
        itself.
        """
        exposition, live = self._exposition, self._live
        if exposition is None:
            return send
        if live is not None:
            live.start()
        opentelemetry = self.settings.opentelemetry

        async def noting_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                advising.note_threads()
                exposition.flush()  # what a killed predecessor of the same process id left goes before anybody looks
                if opentelemetry:
                    runtime.join_opentelemetry()  # so that the very first request finds its span
            if message["type"].startswith("lifespan.shutdown."):
                exposition.flush()
                if live is not None:
                    live.stopped()
            await send(message)

        return noting_send

    async def _serve_metrics(self, page: Exposition, scope: Scope, receive: Receive, send: Send) -> None:
        """The app answers first; only a 404 that no route or endpoint produced is replaced by our page, and, at a path
        that was chosen for it, the answer of a catch-all.
        """
        unclaimed = False
        asked = Request(scope, "GET", scope.get("app") or self.app, get_ident(), perf_counter())

        async def answer(message: Message) -> None:
            nonlocal unclaimed
            if message["type"] == "http.response.start":
                if "endpoint" not in scope and "route" not in scope:
                    unclaimed = message["status"] == 404
                elif self._path_is_chosen:
                    unclaimed = _by_catch_all(asked)
                if not unclaimed:
                    self._say_path_taken(scope, message["status"])
            if not unclaimed:
                await send(message)

        await self.app(scope, receive, answer)
        if not unclaimed:
            return
        scope[_SERVED] = True
        rendered = await _in_own_thread(partial(_render, page, _wsgi_environ(scope)))
        status, headers, body = rendered or (500, [], b"dbwatch could not render its metrics; its log says why.\n")
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    *((name.lower().encode(), value.encode()) for name, value in headers),
                    (b"content-length", str(len(body)).encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    @guarded("middleware.path_taken")
    def _say_path_taken(self, scope: Scope, status: int) -> None:
        if self._path_taken_said or _SERVED in scope:
            return
        self._path_taken_said = True
        logger.log(
            logging.INFO if status < 400 else logging.WARNING,
            "The app itself answers %s (status %d), so dbwatch does not serve its metrics there. They are in that "
            "answer if it serves the same registry; otherwise set metrics_path to another path, such as "
            "/internal/metrics, which is ours even where a catch-all route answers, or to None.",
            self._metrics_path,
            status,
        )


@guarded("middleware.begin")
def _begin(app: ASGIApp, scope: Scope) -> Request | None:
    kind = scope["type"]
    method = method_label(kind, scope.get("method", ""))
    # Starlette sets scope["app"] before its middlewares run; around any other app, the app itself is asked for routes.
    request = Request(scope, method, scope.get("app") or app, get_ident(), perf_counter())
    scope[REQUEST_KEY] = request
    if TELEMETRY.traces is not None:
        TELEMETRY.traces.begin(request)
    return request


def _by_message(request: Request, receive: Receive) -> Receive:
    """``receive`` of a websocket: each message is a piece of work by itself, so repeated statements count anew."""

    def received() -> Awaitable[Message]:
        if request.ran is not None:
            request.ran = ""
        return receive()

    return received


def _by_catch_all(request: Request) -> bool:
    """True if what answered a request is no route of exactly its path."""
    route = route_of(request)
    return "{" in route or route == UNMATCHED


def _with_acceptance(request: Request, send: Send) -> Send:
    """``send`` of a websocket, with what the client is told noted as a status: accepted, refused, or failed."""

    def noting_send(message: Message) -> Awaitable[None]:
        _told(request, message)
        return send(message)

    return noting_send


def _status(message: Message) -> int | None:
    """The status of a response; what else stands there is between the app and its server."""
    status = message.get("status")
    return status if isinstance(status, int) else None


@guarded("middleware.told")
def _told(request: Request, message: Message) -> None:
    kind = message["type"]
    if kind == "websocket.accept":
        request.status = 101
    elif kind == "websocket.http.response.start":
        request.status = _status(message)
    elif kind == "websocket.close":
        if request.status is None:
            request.status = 403  # what a server answers to a handshake that is closed (ASGI websocket specification)
        elif message.get("code", 1000) not in (1000, 1001):
            request.failed = True


def _watched(send: Send, request: Request, chosen: Settings) -> Send:
    """``send`` of a request, with what the messages say noted."""

    # Not a coroutine: handing on the app's own awaitable costs nothing more.
    def watched_send(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            _response_started(request, message, chosen)
        elif request.span is not None and message["type"] == "http.response.body" and not message.get("more_body"):
            _say_on_span(request)  # the instrumentation of ASGI ends the span with this message
        return send(message)

    return watched_send


@guarded("middleware.response_started")
def _response_started(request: Request, message: Message, chosen: Settings) -> None:
    request.status = _status(message)
    request.response_started_at = perf_counter()
    request.ran = None
    if request.span is None and TELEMETRY.traces is not None:
        TELEMETRY.traces.begin(request)  # a tracing middleware further in has begun its span only after us
    if chosen.server_timing:
        so_far = runtime.totals(request)
        value = (
            f"db-wait;dur={so_far.wait_seconds * 1e3:.1f}, db-hold;dur={so_far.hold_seconds * 1e3:.1f}, "
            f"db-executing;dur={so_far.executing_seconds * 1e3:.1f}, db-statements;desc={so_far.statements}"
        )
        # A new list: the app may keep its own for other responses.
        message["headers"] = [*message.get("headers", ()), (b"server-timing", value.encode())]


@guarded("telemetry.say")
def _say_on_span(request: Request) -> None:
    if TELEMETRY.traces is not None:
        runtime.say_on_span(request, TELEMETRY.traces)


@guarded("middleware.failed")
def _failed(request: Request, error: BaseException) -> None:
    request.failed = True
    if isinstance(error, InvalidRequestError):
        refused_concurrency(request, error)


@guarded("middleware.end")
def _end(request: Request, chosen: Settings) -> None:
    """The request is over: nothing of it runs any more but what it has spawned."""
    now = perf_counter()
    request.ended_at = now
    # A coroutine that is destroyed; by the garbage collector, perhaps, and what it can reach only posts.
    destroyed = sys.exc_info()[0] is GeneratorExit
    if request.tried or request.evidence:
        request.route = route_of(request)
        if request.open:
            request.held_at_end = sum(checkout.hold_seconds(now) for checkout in list(request.open))
            judge(request)
        request.reported = True
        request.attempt = None
        LEDGER.post(request_ended, request)
    else:
        request.route = route_at_hand(request)  # what it has spawned may yet be heard of
    slow = chosen.slow_request_seconds
    if slow is not None and now - request.started_at >= slow and not destroyed:
        _say_slow(request, now)
    request.scope = request.app = request.loop = request.ran = None
    if destroyed:
        return
    if request.span is not None:
        _say_on_span(request)
    if request.notable:
        LEDGER.try_fold()
    else:
        LEDGER.fold_if_due()


def _say_slow(request: Request, now: float) -> None:
    spent = runtime.totals(request)
    log_slow_request(
        request.method,
        spent.route,
        now - request.started_at,
        {
            "wait_seconds": spent.wait_seconds,
            "hold_seconds": spent.hold_seconds,
            "executing_seconds": spent.executing_seconds,
            "checkouts": spent.checkouts,
            "statements": spent.statements,
        },
    )


async def _answer_readiness(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer a readiness probe: an error of ours must not take the process out of service."""
    found = _readiness() or Readiness(ready=True, pools=())
    body = json.dumps(found.as_json()).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200 if found.ready else 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@guarded("middleware.readiness")
def _readiness() -> Readiness:
    return readiness()


async def _in_own_thread(function: Callable[[], R]) -> R | None:
    """Run a function in a thread of its own. The event loop's executor may be full of calls that wait for a connection:
    just then the metrics are wanted.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[R | None] = loop.create_future()

    def answer(result: R | None) -> None:
        if not answered.done():  # cancelled, if the client has gone
            answered.set_result(result)

    def run() -> None:
        result = None
        try:
            result = function()
        finally:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(answer, result)

    Thread(target=run, name="dbwatch-metrics", daemon=True).start()
    return await answered


@guarded("middleware.render")
def _render(page: Exposition, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    return page.render(environ)


def _wsgi_environ(scope: Scope) -> dict[str, Any]:
    """What the metrics page needs to know of a request: it negotiates by Accept and Accept-Encoding."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/metrics",
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "HTTP_ACCEPT": headers.get("accept", ""),
        "HTTP_ACCEPT_ENCODING": headers.get("accept-encoding", ""),
    }
