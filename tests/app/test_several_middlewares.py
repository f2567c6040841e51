import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from dbwatch import DBWatchMiddleware
from tests.app.calls import call
from tests.app.middlewares import Query
from tests.app.scrape import Scrape, counted


@pytest.fixture
def app(query: Query) -> FastAPI:
    app = FastAPI()

    async def endpoint() -> None:
        await query()

    app.add_api_route("/items/{item_id}", endpoint)
    app.add_middleware(DBWatchMiddleware)
    return app


async def test_nested_middlewares_count_a_request_once(query: Query, app: FastAPI) -> None:
    outer = DBWatchMiddleware(DBWatchMiddleware(app))
    await call(outer, "/items/7")
    scrape = Scrape((await call(outer, "/metrics")).text)
    assert scrape.routes() == {("GET", "/items/{item_id}"): 1}
    assert scrape.value("dbwatch_request_hold_seconds_count") == 1
    assert scrape.value("dbwatch_hold_seconds_count", pool="shop") == 1


async def test_a_mounted_app_with_a_middleware_of_its_own_counts_a_request_once(app: FastAPI) -> None:
    outer = FastAPI()
    outer.mount("/shop/{name}", app)
    outer.add_middleware(DBWatchMiddleware)
    await call(outer, "/shop/north/items/7")
    assert counted().routes() == {("GET", "/shop/{name}/items/{item_id}"): 1}


async def test_two_apps_in_one_process_share_the_counters(app: FastAPI, query: Query) -> None:
    async def endpoint() -> None:
        await query()

    registry = CollectorRegistry()
    other = FastAPI()
    other.add_api_route("/orders", endpoint)
    other.add_middleware(DBWatchMiddleware, registry=registry)
    await call(app, "/items/7")
    await call(other, "/orders")
    expected = {("GET", "/items/{item_id}"): 1, ("GET", "/orders"): 1}
    assert Scrape((await call(app, "/metrics")).text).routes() == expected
    assert Scrape((await call(other, "/metrics")).text).routes() == expected
