from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from dbwatch import DBWatchMiddleware
from tests.app.calls import App, Receive, Scope, Send, call, connect
from tests.app.middlewares import CopiesScope, PassesOn, Query, TakesConnection
from tests.app.scrape import counted


async def _endpoint(request: Request) -> PlainTextResponse:
    return PlainTextResponse("")


async def _raw_app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("")(scope, receive, send)


class _Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("")


async def _websocket(websocket: WebSocket) -> None:
    await websocket.accept()


@pytest.fixture(params=["scope as it is", "scope copied"])
def app(request: pytest.FixtureRequest, query: Query, tmp_path: Path) -> Starlette:
    """Every kind of route that Starlette has."""
    (tmp_path / "logo.svg").write_text("<svg/>")
    below = FastAPI()
    below.add_api_route("/leaf/{leaf}", lambda: None)
    middleware = [Middleware(DBWatchMiddleware), Middleware(TakesConnection, query=query)]
    if request.param == "scope copied":
        middleware.append(Middleware(CopiesScope))
    return Starlette(
        middleware=middleware,
        routes=[
            Route("/items/{item_id:int}", _endpoint),
            Route("/class/{name}", _Endpoint),
            Route("/raw/{name}", PassesOn(_raw_app)),
            WebSocketRoute("/items/{item_id:int}", _websocket),
            Mount("/v1", routes=[Route("/items/{item_id:int}", _endpoint), Route("/", _endpoint)]),
            Mount("/tenants/{tenant}", routes=[Mount("/shops/{shop}", routes=[Route("/stock", _endpoint)])]),
            Mount("/around", Starlette(routes=[Route("/{name}", _endpoint)]), middleware=[Middleware(PassesOn)]),
            Mount("/fastapi/{name}", below),
            Mount("/static", StaticFiles(directory=tmp_path)),
            Mount("/foreign/{name}", _raw_app),
            Host("{shop}.shops.example.org", Router([Route("/orders/{order}", _endpoint)])),
            Host("admin.example.org", Router([Mount("/area/{area}", routes=[Route("/users/{user}", _endpoint)])])),
        ],
    )


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/items/7", "/items/{item_id:int}"),
        ("/class/x", "/class/{name}"),
        ("/raw/x", "/raw/{name}"),
        ("/v1/items/7", "/v1/items/{item_id:int}"),
        ("/v1/", "/v1/"),
        ("/tenants/acme/shops/3/stock", "/tenants/{tenant}/shops/{shop}/stock"),
        ("/tenants/v1/shops/v1/stock", "/tenants/{tenant}/shops/{shop}/stock"),
        ("/around/x", "/around/{name}"),
        ("/fastapi/x/leaf/9", "/fastapi/{name}/leaf/{leaf}"),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/behind/proxy"])
async def test_a_route_is_labelled_with_the_templates_of_its_mounts(
    app: Starlette, path: str, route: str, root_path: str
) -> None:
    assert (await call(app, root_path + path, root_path=root_path)).status == 200
    assert counted().routes() == {("GET", route): 1}


@pytest.mark.parametrize(
    ("host", "path", "route"),
    [
        ("berlin.shops.example.org", "/orders/7", "/orders/{order}"),
        ("admin.example.org", "/area/51/users/7", "/area/{area}/users/{user}"),
    ],
)
async def test_a_route_of_a_host_is_labelled_with_its_template(
    app: Starlette, host: str, path: str, route: str
) -> None:
    assert (await call(app, path, headers={"host": host})).status == 200
    assert counted().routes() == {("GET", route): 1}


async def test_a_websocket_and_a_route_at_one_path_are_told_apart(app: Starlette) -> None:
    assert (await connect(app, "/items/7")).messages == ["websocket.accept"]
    assert counted().routes() == {("WS", "/items/{item_id:int}"): 1}


@pytest.mark.parametrize(
    ("path", "route"),
    [("/static/logo.svg", "/static/{path}"), ("/foreign/x/a/b", "/foreign/{name}/{path}")],
)
async def test_an_app_without_routes_is_labelled_with_its_mount(app: Starlette, path: str, route: str) -> None:
    assert (await call(app, path)).status == 200
    assert counted().routes() == {("GET", route): 1}


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("GET", "/nowhere/17", 404, "(unmatched)"),
        ("GET", "/tenants/acme/nowhere/17", 404, "(unmatched)"),
        ("GET", "/items/seven", 404, "(unmatched)"),
        ("GET", "/items/7/", 307, "(unmatched)"),
        ("DELETE", "/items/7", 405, "/items/{item_id:int}"),
        ("DELETE", "/v1/items/7", 405, "/v1/items/{item_id:int}"),
    ],
)
async def test_what_reaches_no_endpoint_is_never_labelled_with_the_raw_path(
    app: Starlette, method: str, path: str, status: int, route: str
) -> None:
    assert (await call(app, path, method)).status == status
    assert counted().routes() == {(method, route): 1}


async def test_an_app_without_a_framework_has_no_routes(query: Query) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/metrics":
            await PlainTextResponse("", 404)(scope, receive, send)
            return
        await query()
        await PlainTextResponse("")(scope, receive, send)

    watched = DBWatchMiddleware(app)
    await call(watched, "/users/17")
    assert counted().routes() == {("GET", "(unmatched)"): 1}


async def test_the_middleware_may_be_wrapped_around_an_app_from_outside(query: Query) -> None:
    inner = Starlette(
        routes=[Mount("/v1/{tenant}", routes=[Route("/items/{item}", _endpoint)])],
        middleware=[Middleware(TakesConnection, query=query)],
    )
    watched = DBWatchMiddleware(PassesOn(inner))
    await call(watched, "/v1/acme/items/7")
    assert counted().routes() == {("GET", "/v1/{tenant}/items/{item}"): 1}


async def test_a_mount_without_a_path_of_its_own_hides_no_prefix(query: Query) -> None:
    app = Starlette(
        routes=[
            Mount(
                "", routes=[Route("/near/{name}", _endpoint), Mount("/far/{tenant}", routes=[Route("/x", _endpoint)])]
            )
        ],
        middleware=[Middleware(DBWatchMiddleware), Middleware(TakesConnection, query=query)],
    )
    await call(app, "/near/x")
    await call(app, "/far/acme/x")
    assert counted().routes() == {("GET", "/near/{name}"): 1, ("GET", "/far/{tenant}/x"): 1}


class _TakesOffLanguage:
    """A middleware that takes ``/fr`` off the front of the path, in the very scope."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["path"].removeprefix("/fr")
        await self.app(scope, receive, send)


async def test_a_path_that_a_middleware_has_rewritten_keeps_the_mounts_it_went_through(query: Query) -> None:
    app = Starlette(
        routes=[Mount("/v1/{tenant}", routes=[Route("/items/{item}", _endpoint)])],
        middleware=[
            Middleware(DBWatchMiddleware),
            Middleware(_TakesOffLanguage),
            Middleware(TakesConnection, query=query),
        ],
    )
    await call(app, "/fr/v1/acme/items/7")
    assert counted().routes() == {("GET", "/v1/{tenant}/items/{item}"): 1}
