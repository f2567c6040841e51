import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from sqlalchemy import Engine
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import dbwatch
from dbwatch import DBWatchMiddleware
from tests.app.calls import App, call, connect
from tests.app.middlewares import CopiesScope, Query, TakesConnection
from tests.app.scrape import counted


@pytest.fixture
def app(query: Query, thread_engine: Engine) -> FastAPI:
    """Every way in which FastAPI puts a route below a prefix; each route takes one connection."""
    app = FastAPI()
    app.add_middleware(DBWatchMiddleware)

    async def endpoint() -> None:
        await query()

    def in_thread() -> None:
        thread_engine.connect().close()

    async def websocket(websocket: WebSocket) -> None:
        await websocket.accept()
        await query()

    inner = APIRouter(prefix="/items")
    inner.add_api_route("/{item_id}", endpoint)
    inner.add_api_route("", endpoint, methods=["GET", "POST"])
    inner.add_api_websocket_route("/{item_id}/events", websocket)
    outer = APIRouter(prefix="/shops/{shop_id}")
    outer.include_router(inner)
    outer.add_api_route("/in-thread", in_thread)
    app.include_router(outer, prefix="/v1")
    app.include_router(outer, prefix="/v2")
    app.include_router(inner)
    app.add_api_route("/files/{path:path}", endpoint)
    app.add_api_route("/with-slash/", endpoint)
    app.add_api_websocket_route("/chat/{room}", websocket)

    below = FastAPI()
    below.add_api_route("/items/{item_id}", endpoint)
    below.include_router(outer, prefix="/deep")
    below.add_api_websocket_route("/events/{kind}", websocket)
    app.mount("/tenants/{tenant}", below)
    app.mount("/plain", below)
    lowest = FastAPI()
    lowest.add_api_route("/leaf/{leaf}", endpoint)
    below.mount("/lower/{level}", lowest)

    async def starlette_endpoint(request: Request) -> PlainTextResponse:
        await query()
        return PlainTextResponse("")

    app.add_route("/starlette/{name}", starlette_endpoint)
    app.router.routes.append(Route("/appended/{name}", starlette_endpoint))
    return app


async def label(app: App, path: str, method: str = "GET", root_path: str = "") -> tuple[str, str]:
    """The one pair of method and route that a request is counted under."""
    await call(app, path, method, root_path=root_path)
    [(label, checkouts)] = counted().routes().items()
    assert checkouts == 1
    return label


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/items/7", "/items/{item_id}"),
        ("/items", "/items"),
        ("/v1/shops/3/items/7", "/v1/shops/{shop_id}/items/{item_id}"),
        ("/v2/shops/3/items/7", "/v2/shops/{shop_id}/items/{item_id}"),
        ("/v2/shops/v1/items/v1", "/v2/shops/{shop_id}/items/{item_id}"),
        ("/v1/shops/3/in-thread", "/v1/shops/{shop_id}/in-thread"),
        ("/files/a/b/c.txt", "/files/{path:path}"),
        ("/with-slash/", "/with-slash/"),
        ("/starlette/x", "/starlette/{name}"),
        ("/appended/x", "/appended/{name}"),
    ],
)
async def test_a_route_is_labelled_with_the_prefixes_of_its_routers(app: FastAPI, path: str, route: str) -> None:
    assert await label(app, path) == ("GET", route)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/plain/items/7", "/plain/items/{item_id}"),
        ("/tenants/acme/items/7", "/tenants/{tenant}/items/{item_id}"),
        ("/tenants/plain/items/7", "/tenants/{tenant}/items/{item_id}"),
        ("/tenants/a b/items/7", "/tenants/{tenant}/items/{item_id}"),
        ("/tenants/acme/deep/shops/3/items/7", "/tenants/{tenant}/deep/shops/{shop_id}/items/{item_id}"),
        ("/tenants/acme/lower/2/leaf/9", "/tenants/{tenant}/lower/{level}/leaf/{leaf}"),
    ],
)
async def test_a_route_of_a_mounted_app_is_labelled_with_the_templates_of_its_mounts(
    app: FastAPI, path: str, route: str
) -> None:
    assert await label(app, path) == ("GET", route)


@pytest.mark.parametrize("copies_scope", [False, True])
async def test_a_mount_of_an_included_router_is_part_of_the_label(query: Query, *, copies_scope: bool) -> None:
    async def endpoint() -> None:
        await query()

    below = FastAPI()
    below.add_api_route("/leaf/{leaf}", endpoint)
    router = APIRouter()
    router.mount("/below/{name}", below)
    app = FastAPI()
    app.include_router(router, prefix="/v1")
    if copies_scope:
        app.add_middleware(CopiesScope)
    app.add_middleware(DBWatchMiddleware)
    if (await call(app, "/v1/below/x/leaf/9")).status == 404:
        pytest.skip("this FastAPI leaves the mounts of a router out")
    assert counted().routes() == {("GET", "/v1/below/{name}/leaf/{leaf}"): 1}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/chat/lobby", "/chat/{room}"),
        ("/v1/shops/3/items/7/events", "/v1/shops/{shop_id}/items/{item_id}/events"),
        ("/tenants/acme/events/new", "/tenants/{tenant}/events/{kind}"),
    ],
)
async def test_a_websocket_is_labelled_ws_and_its_route(app: FastAPI, path: str, route: str) -> None:
    await connect(app, path)
    assert counted().routes() == {("WS", route): 1}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/items/7", "/items/{item_id}"),
        ("/api/v1/shops/3/items/7", "/v1/shops/{shop_id}/items/{item_id}"),
        ("/api/tenants/acme/lower/2/leaf/9", "/tenants/{tenant}/lower/{level}/leaf/{leaf}"),
    ],
)
async def test_the_root_path_of_the_server_is_not_part_of_the_label(app: FastAPI, path: str, route: str) -> None:
    assert await label(app, path, root_path="/api") == ("GET", route)


@pytest.fixture
def looked_up(query: Query) -> FastAPI:
    """Routes that take no connection themselves, inside a middleware that does."""
    app = FastAPI()

    async def endpoint() -> None: ...

    router = APIRouter(prefix="/items")
    router.add_api_route("/{item_id}", endpoint, methods=["GET"])
    app.include_router(router, prefix="/v1")
    app.add_api_route("/with-slash/", endpoint)
    app.mount("/below/{name}", FastAPI())
    app.add_middleware(TakesConnection, query=query)
    app.add_middleware(DBWatchMiddleware)
    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "label_expected"),
    [
        ("GET", "/nowhere/17", 404, ("GET", "(unmatched)")),
        ("GET", "/below/x/nowhere/17", 404, ("GET", "(unmatched)")),
        ("GET", "/with-slash", 307, ("GET", "(unmatched)")),
        ("GET", "/openapi.json", 200, ("GET", "/openapi.json")),
        ("DELETE", "/v1/items/7", 405, ("DELETE", "/v1/items/{item_id}")),
        ("BREW", "/v1/items/7", 405, ("(other)", "/v1/items/{item_id}")),
        ("BREW", "/nowhere/17", 404, ("(other)", "(unmatched)")),
    ],
)
async def test_what_reaches_no_endpoint_is_never_labelled_with_the_raw_path(
    looked_up: FastAPI, method: str, path: str, status: int, label_expected: tuple[str, str]
) -> None:
    assert (await call(looked_up, path, method)).status == status
    assert counted().routes() == {label_expected: 1}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/items/7", "/items/{item_id}"),
        ("/v1/shops/3/items/7", "/v1/shops/{shop_id}/items/{item_id}"),
        ("/tenants/acme/lower/2/leaf/9", "/tenants/{tenant}/lower/{level}/leaf/{leaf}"),
        ("/starlette/x", "/starlette/{name}"),
    ],
)
async def test_a_route_is_found_although_a_middleware_copies_the_scope(app: FastAPI, path: str, route: str) -> None:
    app.user_middleware.append(Middleware(CopiesScope))
    assert await label(app, path) == ("GET", route)


async def test_behind_a_copied_scope_routes_of_one_shape_are_told_apart_by_method(query: Query) -> None:
    app = FastAPI()

    async def endpoint() -> None:
        await query()

    app.add_api_route("/items/{item_id}", endpoint, methods=["GET"])
    app.add_api_route("/items/{name}", endpoint, methods=["DELETE"])
    app.add_middleware(CopiesScope)
    app.add_middleware(DBWatchMiddleware)
    await call(app, "/items/7", "DELETE")
    await call(app, "/items/7", "GET")
    assert counted().routes() == {("DELETE", "/items/{name}"): 1, ("GET", "/items/{item_id}"): 1}


@pytest.mark.parametrize("path", ["/chat/lobby", "/v1/shops/3/items/7/events"])
async def test_behind_a_copied_scope_a_websocket_finds_its_route(app: FastAPI, path: str) -> None:
    app.user_middleware.append(Middleware(CopiesScope))
    await connect(app, path)
    [(method, route)] = counted().routes()
    assert (method, route) in {("WS", "/chat/{room}"), ("WS", "/v1/shops/{shop_id}/items/{item_id}/events")}


async def test_the_route_is_known_while_the_request_runs(engine: object) -> None:
    seen = []
    app = FastAPI()

    async def endpoint() -> None:
        totals = dbwatch.current_request()
        assert totals is not None
        seen.append((totals.method, totals.route))

    router = APIRouter(prefix="/v1")
    router.add_api_route("/{number}", endpoint)
    app.include_router(router)
    app.add_middleware(DBWatchMiddleware)
    await call(app, "/v1/17")
    assert seen == [("GET", "/v1/{number}")]
