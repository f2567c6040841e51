"""DESIGN's promise: an error of ours never reaches the app."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, text
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from websockets.sync.client import connect as connect_websocket

import dbwatch
from dbwatch import DBWatchMiddleware, guard
from dbwatch.hooks.switch import SWITCH
from tests.bookkeeping.app import PAGES, App
from tests.bookkeeping.books import internal_errors, open_new_books
from tests.servers.asgi import serve

#: Passed only at installation, with several processes, with a driver that has two-phase transactions, by the live page,
#: by an app with a metrics page of its own, for a readiness probe, with OpenTelemetry, where the endpoint is the only
#: line of the app that is known.
_ELSEWHERE = (
    "advising.",
    "engines.scan",
    "prometheus.write",
    "prometheus.remove_dead_gauges",
    "prometheus.clear_gauges",
    "statements.settled",
    "live.",
    "limits.",
    "middleware.path_taken",
    "middleware.readiness",
    "opentelemetry.",
    "routes.endpoint_site",
    "telemetry.",
)
SITES_OF_REQUESTS = sorted(site for site in guard.SITES if not site.startswith(_ELSEWHERE))

#: Without keep-alive: uvicorn closes the connection after an error of the app, before or after our next request.
_CLIENT = httpx.Client(timeout=20, verify=False, limits=httpx.Limits(max_keepalive_connections=0))


class OurError(Exception):
    """Raised in the place of dbwatch's own code."""


@dataclass(frozen=True)
class Server:
    """A served app."""

    url: str

    def answers(self) -> dict[str, tuple[object, ...]]:
        """Everything that comes back, by page."""
        found: dict[str, tuple[object, ...]] = {}
        for page in PAGES:
            response = self.get(page)
            headers = [item for item in response.headers.multi_items() if item[0] != "date"]
            found[page] = (response.status_code, headers, response.content)
        with connect_websocket(f"{self.url.replace('http', 'ws')}/socket") as socket:
            socket.send("hello")
            found["socket"] = (socket.recv(timeout=20),)
        return found

    def get(self, page: str) -> httpx.Response:
        return _CLIENT.get(f"{self.url}/{page}")


@pytest.fixture(scope="module")
def bare_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """What the app answers without dbwatch's middleware and with its hooks switched off."""
    was_on, SWITCH.on = SWITCH.on, False
    try:
        with serve(App(tmp_path_factory.mktemp("bare") / "app.db").starlette) as url:
            return Server(url).answers()
    finally:
        SWITCH.on = was_on


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    app = App(tmp_path_factory.mktemp("watched") / "app.db")
    app.starlette.add_middleware(
        DBWatchMiddleware,
        registry=CollectorRegistry(),
        on_finding=lambda _finding: None,
    )
    gc.freeze()  # a page collects garbage; it need not look at all that the test run has loaded
    with serve(app.starlette) as url:
        yield Server(url)
    gc.unfreeze()


@pytest.fixture(autouse=True)
def new_books() -> None:
    open_new_books()


@contextmanager
def instead(site: str, replacement: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Put another function behind the guard of a site; it is given the one that belongs there."""
    wrapper: Any = guard.SITES[site]
    cell = wrapper.__closure__[wrapper.__code__.co_freevars.index("function")]
    original = cell.cell_contents
    cell.cell_contents = replacement(original)
    try:
        yield
    finally:
        cell.cell_contents = original


def failing_first(_original: Callable[..., Any]) -> Callable[..., Any]:
    def fail(*_arguments: Any, **_keywords: Any) -> Any:
        raise OurError("before")

    return fail


def failing_last(original: Callable[..., Any]) -> Callable[..., Any]:
    def fail(*arguments: Any, **keywords: Any) -> Any:
        original(*arguments, **keywords)
        raise OurError("after")

    return fail


def call(site: str) -> object:
    """Call what is guarded at a site with as many arguments as it takes."""
    guarded: Any = guard.SITES[site]
    return guarded(*[None] * guarded.__code__.co_argcount)


@pytest.mark.parametrize("how", [failing_first, failing_last])
@pytest.mark.parametrize("site", SITES_OF_REQUESTS)
def test_an_error_at_any_site_changes_no_response_and_loses_no_slot(
    site: str,
    how: Callable[[Callable[..., Any]], Callable[..., Any]],
    watched: Server,
    bare_answers: dict[str, tuple[object, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with instead(site, how):
        answers = watched.answers()
        page = watched.get("metrics")
    assert answers == bare_answers
    assert page.status_code == (500 if site == "middleware.render" else 200)
    assert internal_errors()[site] >= 1
    logged = [record for record in caplog.records if getattr(record, "dbwatch_site", "") == site]
    assert len(logged) == 1
    assert "Traceback" in logged[0].getMessage()
    assert OurError.__name__ in logged[0].getMessage()
    assert f'dbwatch_internal_errors_total{{site="{site}"}}' in watched.get("metrics").text


def test_the_app_answers_the_same_with_dbwatch_as_without(
    watched: Server, bare_answers: dict[str, tuple[object, ...]]
) -> None:
    assert watched.answers() == bare_answers
    assert internal_errors() == {}


@pytest.mark.parametrize("site", sorted(guard.SITES))
def test_a_guarded_function_that_fails_returns_nothing_and_is_counted_each_time_and_logged_once(
    site: str, caplog: pytest.LogCaptureFixture
) -> None:
    with instead(site, failing_first):
        assert call(site) is None
        assert call(site) is None
    assert internal_errors() == {site: 2}
    (logged,) = [record for record in caplog.records if hasattr(record, "dbwatch_site")]
    assert OurError.__name__ in logged.getMessage()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("site", sorted(guard.SITES))
def test_what_belongs_to_the_app_passes_every_guard(site: str, error: type[BaseException]) -> None:
    def interrupted(_original: Callable[..., Any]) -> Callable[..., Any]:
        def interrupt(*_arguments: Any, **_keywords: Any) -> Any:
            raise error

        return interrupt

    with instead(site, interrupted), pytest.raises(error):
        call(site)
    assert internal_errors() == {}


class Broken:
    """Whatever is done with it fails."""

    def __call__(self, *_arguments: Any, **_keywords: Any) -> Any:
        raise OurError

    def __getattr__(self, name: str) -> Any:
        raise OurError(name)


#: What the guarded functions rest on, by the module that uses it.
COLLABORATORS = [
    *(
        "hooks.pool.perf_counter",
        "hooks.pool.Checkout",
        "hooks.pool.ref",
        "hooks.pool.call_site",
        "hooks.pool.owner_now",
    ),
    *("hooks.pool.ATTEMPT", "hooks.pool.REQUEST", "hooks.pool.LEDGER", "hooks.pool.get_ident"),
    *("hooks.connections.perf_counter", "hooks.connections.ATTEMPT", "hooks.connections.LEDGER"),
    *("hooks.statements.perf_counter", "hooks.statements.ATTEMPT", "hooks.statements.REQUEST"),
    *("hooks.wait.perf_counter", "hooks.wait.ATTEMPT", "hooks.engines.POOLS", "hooks.engines.call_site"),
    *("middleware.perf_counter", "middleware.Request", "middleware.judge", "middleware.route_of", "middleware.LEDGER"),
]


@pytest.mark.parametrize("collaborator", COLLABORATORS)
def test_an_error_of_what_the_hooks_rest_on_changes_no_response_and_loses_no_slot(
    collaborator: str,
    watched: Server,
    bare_answers: dict[str, tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"dbwatch.{collaborator}", Broken())
    answers = watched.answers()
    monkeypatch.undo()
    assert answers == bare_answers
    assert internal_errors()


@pytest.mark.parametrize("site", ["pool.checkin", "middleware.end"])
def test_a_log_handler_that_raises_changes_no_response_and_no_number(
    site: str, watched: Server, bare_answers: dict[str, tuple[object, ...]]
) -> None:
    class RaisingHandler(logging.Handler):
        calls = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.calls += 1
            raise OurError

    handler = RaisingHandler()
    logger = logging.getLogger("dbwatch")
    logger.addHandler(handler)
    try:
        with instead(site, failing_last):
            answers = watched.answers()
            page = watched.get("metrics")
    finally:
        logger.removeHandler(handler)
    assert answers == bare_answers
    assert handler.calls > 0
    assert page.status_code == 200
    assert f'dbwatch_internal_errors_total{{site="{site}"}}' in page.text
    assert internal_errors()["ledger.report"] >= 1


def test_a_log_handler_that_checks_out_a_connection_itself_changes_no_response(
    watched: Server, bare_answers: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'log.db'}")

    class DatabaseHandler(logging.Handler):
        written = 0

        def emit(self, record: logging.LogRecord) -> None:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            dbwatch.snapshot()
            self.written += 1

    handler = DatabaseHandler()
    logger = logging.getLogger("dbwatch")
    logger.addHandler(handler)
    try:
        with instead("pool.checkout", failing_last):
            answers = watched.answers()
    finally:
        logger.removeHandler(handler)
        engine.dispose()
    assert answers == bare_answers
    assert handler.written > 0


def test_the_app_s_own_metrics_page_is_served_although_the_log_handler_raises(caplog: pytest.LogCaptureFixture) -> None:
    class RaisingHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OurError

    app = Starlette(routes=[Route("/metrics", lambda _request: PlainTextResponse("mine"))])
    app.add_middleware(DBWatchMiddleware, registry=CollectorRegistry())
    handler = RaisingHandler()
    logger = logging.getLogger("dbwatch")
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, "dbwatch")
    try:
        with serve(app) as url:
            assert Server(url).get("metrics").text == "mine"
    finally:
        logger.removeHandler(handler)
