"""A connection that is still out when its request has ended is counted once, with the route."""

import asyncio
import gc
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

import dbwatch
from demo_app.postgres import EmbeddedPostgres
from tests.apps.visits import ask
from tests.core.conftest import Connect
from tests.core.leaking import Kept, settled, visiting, watched_app
from tests.core.numbers import Numbers
from tests.servers.asgi import Loop, serve


def accused(numbers: Numbers, route: str, times: int = 1, method: str = "GET") -> None:
    """Assert that ``times`` leaks were counted, all of them at the end of requests to this route."""
    assert numbers.leaks("request_end") == times
    assert numbers.leaks("gc") == 0
    assert numbers("dbwatch_route_events_total", event="leak") == times
    assert numbers("dbwatch_route_events_total", event="leak", method=method, route=route) == times


async def test_a_connection_still_out_at_the_end_of_its_request_is_counted_once_with_its_route(
    connect: Connect, numbers: Numbers
) -> None:
    engine, kept, app = connect(pool_size=2).engine, Kept(), watched_app()
    router = APIRouter(prefix="/api")

    @router.get("/items/{number}")
    async def lose(number: int) -> str:
        await kept.take(engine)
        return "lost"

    app.include_router(router, prefix="/v1")
    async with visiting(app) as client:
        assert (await client.get("/v1/api/items/7")).status_code == 200
        await settled()
        accused(numbers, "/v1/api/items/{number}")
        snapshot = numbers.snapshot()
        assert (snapshot.used, snapshot.leaked, snapshot.idle) == (1, 1, 0)
        assert numbers("dbwatch_pool_leaked_connections") == 1
        assert [(holder.leaked, holder.route) for holder in snapshot.holders] == [(True, "/v1/api/items/{number}")]
        assert numbers("dbwatch_route_connections", route="/v1/api/items/{number}") == 1
        for _ in range(3):  # Neither scrapes nor later requests count it again.
            await client.get("/nowhere")
        accused(numbers, "/v1/api/items/{number}")
    await kept.give_back()
    accused(numbers, "/v1/api/items/{number}")


async def test_a_leaked_connection_that_comes_back_leaves_the_gauge_and_is_counted_as_returned(
    connect: Connect, numbers: Numbers
) -> None:
    engine, kept, app = connect(pool_size=2).engine, Kept(), watched_app()

    @app.get("/")
    async def lose() -> None:
        await kept.take(engine)

    async with visiting(app) as client:
        await client.get("/")
        await client.get("/")
    await settled()
    assert numbers.snapshot().leaked == 2
    assert numbers("dbwatch_leaks_returned_total") == 0
    await kept.give_back()
    snapshot = numbers.snapshot()
    assert (snapshot.leaked, snapshot.used, snapshot.idle) == (0, 0, 2)
    assert numbers("dbwatch_leaks_returned_total") == 2
    assert numbers("dbwatch_hold_seconds_count") == 2
    accused(numbers, "/", 2)


async def test_a_leak_of_a_request_that_failed_is_counted(connect: Connect, numbers: Numbers) -> None:
    engine, kept, app = connect().engine, Kept(), watched_app()

    @app.get("/fails")
    async def fail() -> None:
        await kept.take(engine)
        raise ValueError("not for the middleware to swallow")

    async with visiting(app) as client:
        assert (await client.get("/fails")).status_code == 500
    await settled()
    accused(numbers, "/fails")
    await kept.give_back()


async def test_a_leak_of_a_task_that_the_request_awaited_is_the_requests(connect: Connect, numbers: Numbers) -> None:
    engine, kept, app = connect().engine, Kept(), watched_app()

    @app.get("/gathers")
    async def gather() -> None:
        await asyncio.gather(kept.take(engine), kept.take(engine))

    async with visiting(app) as client:
        await client.get("/gathers")
    await settled()
    accused(numbers, "/gathers", 2)
    await kept.give_back()


async def test_a_leak_in_a_middleware_is_counted_with_the_route_it_leads_to(connect: Connect, numbers: Numbers) -> None:
    engine, kept, app = connect().engine, Kept(), FastAPI()

    @app.get("/behind")
    async def behind() -> str:
        return "fine"

    async def losing(request: Request, call_next: Any) -> Response:
        await kept.take(engine)
        if "rejected" in request.headers:
            return JSONResponse({}, 403)
        answer: Response = await call_next(request)
        return answer

    app.add_middleware(BaseHTTPMiddleware, dispatch=losing)
    app.add_middleware(dbwatch.DBWatchMiddleware)
    async with visiting(app) as client:
        assert (await client.get("/behind")).status_code == 200
        await settled()
        accused(numbers, "/behind")
        assert (await client.get("/behind", headers={"rejected": "yes"})).status_code == 403
    await settled()
    assert numbers.leaks("request_end") == 2
    await kept.give_back()


async def test_a_leak_behind_a_middleware_that_runs_the_endpoint_in_a_task_is_counted(
    connect: Connect, numbers: Numbers
) -> None:
    engine, kept, app = connect().engine, Kept(), FastAPI()

    @app.get("/behind")
    async def behind() -> None:
        await kept.take(engine)

    async def harmless(request: Request, call_next: Any) -> Response:
        answer: Response = await call_next(request)
        return answer

    app.add_middleware(BaseHTTPMiddleware, dispatch=harmless)
    app.add_middleware(dbwatch.DBWatchMiddleware)
    async with visiting(app) as client:
        await client.get("/behind")
    await settled()
    accused(numbers, "/behind")
    await kept.give_back()


async def test_a_leak_in_a_background_task_is_the_requests(connect: Connect, numbers: Numbers) -> None:
    engine, kept, app = connect().engine, Kept(), watched_app()

    @app.get("/works")
    async def work() -> Response:
        return JSONResponse({}, background=BackgroundTask(kept.take, engine))

    async with visiting(app) as client:
        await client.get("/works")
    await settled()
    accused(numbers, "/works")
    await kept.give_back()


async def test_a_leak_in_a_stream_is_counted_when_the_stream_is_over(connect: Connect, numbers: Numbers) -> None:
    engine, kept, app = connect().engine, Kept(), watched_app()
    seen = []

    async def rows() -> Any:
        await kept.take(engine)
        yield "1"
        seen.append(numbers.leaks("request_end"))
        yield "2"

    @app.get("/streams")
    async def stream() -> StreamingResponse:
        return StreamingResponse(rows())

    async with visiting(app) as client:
        assert (await client.get("/streams")).text == "12"
    await settled()
    assert seen == [0]
    accused(numbers, "/streams")
    await kept.give_back()


async def test_a_session_dependency_without_an_end_leaks(postgres: EmbeddedPostgres, numbers: Numbers) -> None:
    engine = create_engine(postgres.url())
    app, sessions = watched_app(), Kept()

    def get_db() -> Session:
        sessions.append(Session(engine))
        return sessions[-1]  # type: ignore[no-any-return]

    @app.get("/")
    def read(db: Annotated[Session, Depends(get_db)]) -> int:
        return int(db.scalar(text("SELECT 7")) or 0)

    async with visiting(app) as client:
        assert (await client.get("/")).json() == 7
    await settled()
    accused(numbers, "/")
    await sessions.give_back()
    assert numbers.snapshot().used == 0
    engine.dispose()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_hundreds_of_leaks_in_thread_pool_endpoints_are_counted_exactly(
    tmp_path: Path, loop: Loop, numbers: Numbers
) -> None:
    requests = 200
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", max_overflow=-1)
    kept: list[Any] = []
    app = watched_app()

    @app.get("/loses")
    def lose() -> None:
        kept.append(engine.connect())

    @app.get("/careful")
    def careful() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    with serve(app, loop=loop) as url:
        answers = ask(url, ["/loses", "/careful"] * requests)
        assert {answer.status_code for answer in answers} == {200}
        assert dbwatch.settle(10.0)
        accused(numbers, "/loses", requests)
        snapshot = numbers.snapshot()
        assert (snapshot.used, snapshot.leaked, len(kept)) == (requests, requests, requests)
    for connection in kept:
        connection.close()
    assert numbers("dbwatch_leaks_returned_total") == requests
    assert numbers.snapshot().used == 0
    accused(numbers, "/loses", requests)
    engine.dispose()


def test_a_leak_of_a_websocket_is_counted_when_the_websocket_is_closed(
    postgres: EmbeddedPostgres, numbers: Numbers
) -> None:
    engine = create_engine(postgres.url())
    kept: list[Any] = []
    app = watched_app()

    @app.websocket("/ws/{room}")
    async def talk(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        kept.append(await asyncio.to_thread(engine.connect))
        await websocket.send_text("ready")
        await websocket.receive_text()

    with TestClient(app) as client, client.websocket_connect("/ws/blue") as websocket:
        assert websocket.receive_text() == "ready"
        dbwatch.flush()
        assert numbers.leaks("request_end") == 0
        assert [(holder.method, holder.route) for holder in numbers.snapshot().holders] == [("WS", "/ws/{room}")]
        websocket.send_text("bye")
    assert dbwatch.settle(5.0)
    accused(numbers, "/ws/{room}", method="WS")
    for connection in kept:
        connection.close()
    engine.dispose()


async def test_leaks_of_several_engines_are_counted_for_each(postgres: EmbeddedPostgres, numbers: Numbers) -> None:
    primary, replica = create_engine(postgres.url()), create_engine(postgres.url())
    dbwatch.watch(primary, "primary")
    dbwatch.watch(replica, "replica")
    app, kept = watched_app(), Kept()

    @app.get("/")
    def lose() -> None:
        kept.append(primary.connect())
        kept.append(replica.connect())
        kept.append(replica.connect())

    async with visiting(app) as client:
        await client.get("/")
    await settled()
    assert numbers.leaks("request_end") == 3
    assert numbers("dbwatch_leaks_total", pool="primary") == 1
    assert numbers("dbwatch_leaks_total", pool="replica") == 2
    assert numbers("dbwatch_route_events_total", pool="replica", event="leak", route="/") == 2
    await kept.give_back()
    primary.dispose()
    replica.dispose()


async def test_a_leaked_connection_that_is_invalidated_or_detached_is_out_no_more(
    connect: Connect, numbers: Numbers
) -> None:
    connections = connect()
    kept, app = Kept(), watched_app()

    @app.get("/")
    async def lose() -> None:
        await kept.take(connections.engine)

    async with visiting(app) as client:
        await client.get("/")
    await settled()
    await connections.invalidate(kept[0])
    assert (numbers.snapshot().used, numbers.snapshot().leaked) == (0, 0)
    assert numbers("dbwatch_leaks_returned_total") == 1
    accused(numbers, "/")
    await kept.give_back()


async def test_without_a_middleware_nothing_is_a_leak(connect: Connect, numbers: Numbers) -> None:
    connections = connect()
    async with connections.taken(2):
        assert numbers.snapshot().leaked == 0
        assert {holder.route for holder in numbers.snapshot().holders} == {"(none)"}
    assert numbers("dbwatch_leaks_total") == 0


async def test_a_leak_is_logged_at_the_end_of_its_request_though_nobody_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, kept, app = create_engine(f"sqlite:///{tmp_path / 'test.db'}", poolclass=QueuePool), [], watched_app()

    @app.get("/leaks")
    async def leak() -> None:
        kept.append(engine.connect())

    async with visiting(app) as client:
        await client.get("/leaks")
    said = [record.dbwatch_finding for record in caplog.records if hasattr(record, "dbwatch_finding")]
    assert "leaked_connection" in said
    kept[0].close()
    engine.dispose()


@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("reclaimed", [False, True])
async def test_the_report_of_a_leak_is_taken_back_when_its_connection_comes_back(
    reclaimed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, kept, app = create_engine(f"sqlite:///{tmp_path / 'test.db'}", poolclass=QueuePool), [], watched_app()
    dbwatch.watch(engine, name="primary")

    @app.get("/items/{number}")
    async def leak(number: int) -> None:
        kept.append(engine.connect())

    async with visiting(app) as client:
        await client.get("/items/7")
    with caplog.at_level("INFO", logger="dbwatch"):
        if reclaimed:
            kept.clear()
            gc.collect()
        else:
            kept.pop().close()
        dbwatch.flush()
    (said,) = [record for record in caplog.records if hasattr(record, "dbwatch_held_seconds")]
    how = "reclaimed by the garbage collector" if reclaimed else "given back"
    assert said.getMessage().startswith(
        f"A connection of pool primary that was reported as leaked by /items/{{number}} has been {how} after "
    )
    engine.dispose()
