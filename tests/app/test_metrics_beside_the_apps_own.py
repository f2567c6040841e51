import logging
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette_exporter import PrometheusMiddleware, handle_metrics

from dbwatch import DBWatchMiddleware
from tests.app.calls import Receive, Scope, Send, call
from tests.app.middlewares import Query
from tests.app.scrape import OPENMETRICS, Scrape


async def scraped(app: FastAPI | Starlette, accept: str = "text/plain") -> Scrape:
    """A request to the app and what it serves afterwards, with our metrics in it."""
    assert (await call(app, "/items/7")).status == 200
    answer = await call(app, "/metrics", headers={"accept": accept})
    assert answer.status == 200
    openmetrics = answer.header("content-type").startswith("application/openmetrics-text")
    scrape = Scrape(answer.text, openmetrics=openmetrics)
    assert scrape.routes() == {("GET", "/items/{item_id}"): 1}
    return scrape


async def test_a_page_made_by_hand_shows_our_metrics_too(query: Query) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        await query()
        return PlainTextResponse("")

    def metrics(request: Request) -> PlainTextResponse:
        return PlainTextResponse(generate_latest(), headers={"x-made-by": "hand"})

    app = Starlette(routes=[Route("/items/{item_id}", endpoint), Route("/metrics", metrics)])
    app.add_middleware(DBWatchMiddleware)
    await scraped(app)
    assert (await call(app, "/metrics")).header("x-made-by") == "hand"


@pytest.mark.parametrize("ours_is_added", ["before", "after"])
async def test_the_page_of_prometheus_fastapi_instrumentator_shows_our_metrics_too(
    query: Query, ours_is_added: str
) -> None:
    async def endpoint() -> None:
        await query()

    app = FastAPI()
    app.add_api_route("/items/{item_id}", endpoint)
    theirs = CollectorRegistry()
    if ours_is_added == "before":
        app.add_middleware(DBWatchMiddleware, registry=theirs)
    Instrumentator(registry=theirs).instrument(app).expose(app)
    if ours_is_added == "after":
        app.add_middleware(DBWatchMiddleware, registry=theirs)
    scrape = await scraped(app)
    assert scrape.value("http_requests_total", handler="/items/{item_id}") == 1
    assert list(scrape.samples("dbwatch_build_info"))


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
@pytest.mark.parametrize("ours_is_added", ["before", "after"])
async def test_the_page_of_starlette_exporter_shows_our_metrics_too(
    query: Query, ours_is_added: str, accept: str
) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        await query()
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/items/{item_id}", endpoint), Route("/metrics", handle_metrics)])
    if ours_is_added == "before":
        app.add_middleware(DBWatchMiddleware)
    app.add_middleware(PrometheusMiddleware, app_name="shop", prefix=f"shop_{ours_is_added}_{len(accept)}")
    if ours_is_added == "after":
        app.add_middleware(DBWatchMiddleware)
    scrape = await scraped(app, accept)
    assert scrape.sum(f"shop_{ours_is_added}_{len(accept)}_requests_total") >= 1


async def _own_page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("the app's own", int(request.query_params.get("status", "200")))


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_an_app_that_has_the_path_keeps_it_whatever_it_answers(status: int) -> None:
    app = DBWatchMiddleware(Starlette(routes=[Route("/metrics", _own_page)]))
    answer = await call(app, "/metrics", query=f"status={status}")
    assert (answer.status, answer.text) == (status, "the app's own")


@pytest.mark.parametrize(
    "routes",
    [
        [Route("/{path:path}", _own_page)],
        [Mount("/", app=PlainTextResponse("not here", 404))],
        [Mount("/metrics", routes=[Route("/", _own_page)])],
    ],
)
async def test_an_app_that_catches_all_keeps_the_path_and_the_log_says_so_once(
    routes: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dbwatch")
    app = DBWatchMiddleware(Starlette(routes=routes))
    for _ in range(3):
        assert "dbwatch_build_info" not in (await call(app, "/metrics")).text
    [said] = [record.getMessage() for record in caplog.records if record.name == "dbwatch"]
    assert said.startswith("The app itself answers /metrics ")
    assert "metrics_path" in said


_CATCH_ALL: list[list[Any]] = [
    [Route("/{path:path}", _own_page)],
    [Mount("/", app=PlainTextResponse("not here", 404))],
    [Mount("/", app=PlainTextResponse("a page"))],
    [Mount("/internal", routes=[Route("/{path:path}", _own_page)])],
]


@pytest.mark.parametrize("routes", _CATCH_ALL)
async def test_a_path_chosen_for_the_metrics_is_ours_where_only_a_catch_all_would_answer(
    routes: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dbwatch")
    app = DBWatchMiddleware(Starlette(routes=routes), metrics_path="/internal/metrics")
    answer = await call(app, "/internal/metrics")
    assert answer.status == 200
    assert "dbwatch_build_info" in answer.text
    assert not caplog.records


@pytest.mark.parametrize("made", [Starlette, FastAPI])
async def test_a_path_chosen_for_the_metrics_that_a_route_of_the_app_has_is_the_apps(made: Any) -> None:
    inner = [Route("/metrics", _own_page)]
    for routes in ([Route("/internal/metrics", _own_page), *_CATCH_ALL[0]], [Mount("/internal", routes=inner)]):
        app = DBWatchMiddleware(made(routes=routes), metrics_path="/internal/metrics")
        assert (await call(app, "/internal/metrics")).text == "the app's own"


async def test_a_spa_of_fastapi_keeps_its_pages_and_the_chosen_path_is_ours() -> None:
    app = FastAPI()

    @app.get("/{path:path}")
    def spa(path: str) -> str:
        return f"index for {path}"

    app.add_middleware(DBWatchMiddleware, metrics_path="/internal/metrics")
    assert "index for metrics" in (await call(app, "/metrics")).text
    assert "dbwatch_build_info" in (await call(app, "/internal/metrics")).text


async def test_an_app_that_leaves_the_path_to_us_leaves_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dbwatch")
    assert (await call(DBWatchMiddleware(Starlette()), "/metrics")).status == 200
    assert not caplog.records


async def test_an_app_that_fails_at_the_path_fails_as_it_does_without_us() -> None:
    async def broken(request: Request) -> PlainTextResponse:
        raise LookupError("no metrics today")

    app = DBWatchMiddleware(Starlette(routes=[Route("/metrics", broken)]))
    with pytest.raises(LookupError, match="no metrics today"):
        await call(app, "/metrics")


async def test_a_middleware_that_guards_the_app_guards_the_page() -> None:
    class Refuses:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("who are you?", 401)(scope, receive, send)

    app = Starlette(middleware=[Middleware(DBWatchMiddleware), Middleware(Refuses)])
    answer = await call(app, "/metrics")
    assert (answer.status, answer.text) == (401, "who are you?")
