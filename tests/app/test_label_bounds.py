from collections.abc import Awaitable, Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import QueuePool, create_engine

import dbwatch
from dbwatch import DBWatchMiddleware
from tests.app.calls import call
from tests.app.scrape import counted

BOUND = 200


@pytest.fixture
def app(query: Callable[[], Awaitable[None]]) -> FastAPI:
    app = FastAPI()

    async def endpoint() -> None:
        await query()

    for number in range(BOUND + 5):
        app.add_api_route(f"/route-{number}", endpoint, methods=["GET", "POST"])
    app.add_middleware(DBWatchMiddleware)
    return app


async def test_routes_past_the_bound_share_one_label_and_are_counted(app: FastAPI) -> None:
    for number in range(BOUND):
        await call(app, f"/route-{number}")
    page = counted()
    assert len(page.routes()) == BOUND
    assert page.value("dbwatch_label_overflow_total", label="route") == 0

    await call(app, "/route-0", "POST")
    await call(app, f"/route-{BOUND}")
    await call(app, f"/route-{BOUND}")
    await call(app, "/nowhere")
    await call(app, "/route-0")
    page = counted()
    assert page.value("dbwatch_request_checkouts_total", method="(other)", route="(other)") == 3
    assert page.value("dbwatch_request_checkouts_total", method="GET", route="/route-0") == 2
    assert len(page.routes()) == BOUND + 1
    assert page.value("dbwatch_label_overflow_total", label="route") == 3


async def test_every_metric_by_route_keeps_to_the_bound(app: FastAPI) -> None:
    for number in range(BOUND + 5):
        await call(app, f"/route-{number}")
    page = counted()
    for family in page.families.values():
        pairs = {(sample.labels.get("method"), sample.labels.get("route")) for sample in family.samples}
        assert len(pairs - {(None, None)}) <= BOUND + 1, family.name


async def test_requests_that_touch_no_pool_use_up_no_label(app: FastAPI) -> None:
    for number in range(BOUND + 50):
        await call(app, f"/nowhere-{number}")
    assert counted().routes() == {}


async def test_pool_names_past_the_bound_share_one_label_and_are_counted() -> None:
    engines = [create_engine("sqlite://", poolclass=QueuePool) for _ in range(25)]
    for number, engine in enumerate(engines):
        dbwatch.watch(engine, name=f"tenant-{number}")
        engine.connect().close()
    page = counted()
    holds = {sample.labels["pool"]: sample.value for sample in page.samples("dbwatch_hold_seconds_count")}
    named = [name for name in holds if name.startswith("tenant-")]
    assert len(named) <= 20
    assert holds["(other)"] == 25 - len(named)
    assert page.value("dbwatch_label_overflow_total", label="pool") >= 25 - len(named)
    for engine in engines:
        engine.dispose()


def test_an_app_that_names_all_its_engines_has_as_many_names_as_the_bound_allows() -> None:
    engines = [create_engine(f"sqlite:///tenant-{number}.db", poolclass=QueuePool) for number in range(20)]
    for number, engine in enumerate(engines):
        dbwatch.watch(engine, name=f"tenant-{number}")
    names = {pool.name for pool in dbwatch.snapshot()}
    assert {f"tenant-{number}" for number in range(20)} <= names
