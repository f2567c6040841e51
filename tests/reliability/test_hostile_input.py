"""Scopes and messages that no server should send, names that break labels: the app notices nothing of dbwatch."""

import asyncio
import gc
import itertools
import subprocess
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import dbwatch
from dbwatch import DBWatchMiddleware
from tests.bookkeeping.books import Books, internal_errors, open_new_books
from tests.conftest import cannot_run
from tests.servers.program import MissingProgramError, find_program

Mapping = MutableMapping[str, Any]

_ANY_THREAD = {"check_same_thread": False}
_engine = create_engine("sqlite://", poolclass=QueuePool, connect_args=_ANY_THREAD)
_registry = CollectorRegistry()

# Any code point, lone surrogates and control characters included.
_words = st.text(st.characters(), max_size=30)
_paths = st.one_of(_words, _words.map("/{}".format), st.sampled_from(["", "/", "/shop", "/shop/7", "//", "/metrics/"]))
_methods = st.one_of(_words, st.sampled_from(["GET", "HEAD", "get", "PROPFIND", "X" * 5000]))
_headers = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=4)
_scopes = st.fixed_dictionaries(
    {"type": st.sampled_from(["http", "websocket", "lifespan", "carrier-pigeon", ""])},
    optional={
        "path": _paths,
        "raw_path": st.binary(max_size=60),
        "root_path": _paths,
        "query_string": st.binary(max_size=60),
        "method": _methods,
        "headers": _headers,
        "state": st.just({}),
        "extensions": st.just({"websocket.http.response": {}}),
    },
)
_message_types = [
    *("http.response.start", "http.response.body", "http.response.trailers", "http.disconnect", "http.request"),
    *("websocket.accept", "websocket.close", "websocket.send", "websocket.http.response.start", "nonsense"),
]
_messages = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(_message_types),
        "status": st.one_of(st.integers(), st.none(), _words),
        "headers": st.one_of(_headers, st.none()),
        "body": st.binary(max_size=10),
        "more_body": st.booleans(),
        "code": st.one_of(st.integers(), st.none()),
    },
)


class FailingError(Exception):
    """The app's own."""


def _app(messages: list[Mapping], fails: bool) -> Callable[..., Any]:
    """Uses a connection, sends these messages in this order, and perhaps fails."""

    async def app(scope: Mapping, receive: Any, send: Any) -> None:
        await receive()
        with _engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            for message in messages:
                await send(dict(message))
        if fails:
            raise FailingError

    return app


async def _run(app: Callable[..., Any], scope: Mapping) -> tuple[list[Any], object]:
    """What the app sends, and what it raises; the server, like real ones, fails at a message without a type."""
    sent: list[Any] = []

    async def receive() -> Mapping:
        return {"type": "http.request"}

    async def send(message: Mapping) -> None:
        sent.append((message["type"], message))

    try:
        await app({**scope}, receive, send)
    except Exception as error:  # noqa: BLE001  to be compared
        return sent, (type(error), str(error))
    return sent, None


@pytest.fixture(scope="module", autouse=True)
def new_books() -> Iterator[None]:
    open_new_books()
    gc.freeze()  # each example begins with a collection, which need not look at all that the test run has loaded
    yield
    gc.unfreeze()
    _engine.dispose()


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(scope=_scopes, messages=st.lists(_messages, max_size=4), fails=st.booleans())
def test_whatever_a_scope_and_the_messages_hold_the_app_sends_and_raises_the_same(
    scope: Mapping, messages: list[Mapping], fails: bool
) -> None:
    app = _app(messages, fails)
    watched = DBWatchMiddleware(app, registry=_registry, server_timing=False)
    assert asyncio.run(_run(watched, scope)) == asyncio.run(_run(app, scope))
    assert internal_errors() == {}


@settings(max_examples=100)
@given(path=_paths, method=_methods, headers=_headers)
def test_whatever_is_asked_of_a_starlette_app_its_answer_is_the_same(
    path: str, method: str, headers: list[tuple[bytes, bytes]]
) -> None:
    def page(_request: Request) -> PlainTextResponse:
        with _engine.connect() as connection:
            return PlainTextResponse(str(connection.execute(text("SELECT 42")).scalar()))

    app = Starlette(routes=[Route("/shop/{item}", page), Route("/{rest:path}", page)])
    watched = DBWatchMiddleware(app, registry=_registry)
    scope = {"type": "http", "path": path, "method": method, "headers": headers, "query_string": b""}
    assert asyncio.run(_run(watched, scope)) == asyncio.run(_run(app, scope))
    assert internal_errors() == {}


_numbers = itertools.count()


@settings(max_examples=60)
@given(name=_words.filter(str.strip), route=_words)
def test_names_that_break_labels_leave_pages_that_the_official_parsers_read(name: str, route: str) -> None:
    open_new_books()
    engine = create_engine("sqlite://", poolclass=QueuePool, connect_args=_ANY_THREAD)
    dbwatch.watch(engine, name)

    def page(_request: Request) -> PlainTextResponse:
        with engine.connect():
            return PlainTextResponse("")

    app = DBWatchMiddleware(Starlette(routes=[Route(f"/{route}", page)]), registry=_registry)
    scope = {"type": "http", "path": f"/{route}", "method": "GET", "headers": [], "query_string": b""}
    asyncio.run(_run(app, scope))
    try:
        for accept, parse in (
            (b"text/plain", parser.text_string_to_metric_families),
            (b"application/openmetrics-text", openmetrics_parser.text_string_to_metric_families),
        ):
            families = list(parse(_page(app, accept)))
            pools = {
                sample.labels["pool"] for family in families for sample in family.samples if "pool" in sample.labels
            }
            assert pools
    finally:
        engine.dispose()


def _page(app: Any, accept: bytes = b"text/plain") -> str:
    scope = {"type": "http", "path": "/metrics", "method": "GET", "headers": [(b"accept", accept)], "query_string": b""}
    sent, error = asyncio.run(_run(app, scope))
    assert error is None
    assert sent[0][1]["status"] == 200
    return str(sent[1][1]["body"].decode("utf-8"))


def test_promtool_reads_the_page_that_hostile_names_and_requests_have_left(new_books: None) -> None:
    try:
        promtool = find_program("promtool", "`.ci/get-prometheus`")
    except MissingProgramError as error:
        cannot_run(error)
    open_new_books()
    engines = []
    for name in ('"', "\\", "\n", '{le="1"} 3', "\ud800", "\x00", "é\u2028", "# HELP x", "a" * 10_000):
        engine = create_engine("sqlite://", poolclass=QueuePool)
        dbwatch.watch(engine, f"x{name}")
        engine.connect().close()
        engines.append(engine)
    page = _page(DBWatchMiddleware(Starlette(), registry=_registry))
    for engine in engines:
        engine.dispose()
    checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    # 3 is the exit status for remarks on style, 1 for a page that cannot be read.
    assert checked.returncode in (0, 3), checked.stderr
    assert "error while linting" not in checked.stderr


class NamelessDialect(SQLiteDialect_pysqlite):
    """A dialect as SQLAlchemy allows it: without a name of its driver."""

    supports_statement_cache = True

    @property
    def driver(self) -> str:  # type: ignore[override]
        raise AttributeError("driver")


def test_an_engine_whose_dialect_names_no_driver_is_watched() -> None:
    open_new_books()
    registry.register("nameless", __name__, NamelessDialect.__name__)
    engine = create_engine("nameless://", poolclass=QueuePool)
    engine.connect().close()
    engine.dispose()
    [pool] = dbwatch.snapshot()
    assert pool.attributes["driver"] == ""
    assert Books(pool.name).observed("dbwatch_hold_seconds")[""] == 1
    assert internal_errors() == {}


def test_ten_thousand_unknown_paths_make_one_label_and_keep_nothing() -> None:
    open_new_books()

    async def nowhere(scope: Mapping, receive: Any, send: Any) -> None:
        with _engine.connect():
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    app = DBWatchMiddleware(nowhere, registry=_registry)

    async def visits() -> None:
        for number in range(10_000):
            scope = {"type": "http", "path": f"/{number}/wp-login.php", "method": f"M{number}", "headers": []}
            await _run(app, scope)

    asyncio.run(visits())
    families = list(parser.text_string_to_metric_families(_page(app)))
    routes = {sample.labels["route"] for family in families for sample in family.samples if "route" in sample.labels}
    methods = {sample.labels["method"] for family in families for sample in family.samples if "method" in sample.labels}
    assert routes == {"(unmatched)"}
    assert methods == {"(other)"}
    assert "wp-login" not in _page(app)
