"""Other servers, other frameworks, other kinds of process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, QueuePool
from sqlmodel import Field, Session, SQLModel, create_engine, select

import dbwatch
from dbwatch import DBWatchMiddleware
from tests.app.calls import Receive, Scope, Send, call
from tests.app.middlewares import Query
from tests.app.scrape import Scrape, scrape
from tests.servers.asgi import Loop, serve
from tests.servers.ports import free_port
from tests.servers.program import ServerProcess
from tests.servers.waiting import eventually

ROOT = Path(__file__).parents[2]


class Hero(SQLModel, table=True):
    """A table by SQLModel."""

    id: int | None = Field(default=None, primary_key=True)
    name: str


@pytest.fixture
def heroes(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'heroes.db'}", poolclass=QueuePool)
    dbwatch.watch(engine, name="heroes")
    SQLModel.metadata.create_all(engine, tables=[SQLModel.metadata.tables["hero"]])
    yield engine
    engine.dispose()


def _counted_once(client: httpx.Client, route: str) -> bool:
    """A request ends after its response: with the teardown of its dependencies."""
    page = Scrape(client.get("/metrics").raise_for_status().text)
    return page.sum("dbwatch_request_checkouts_total", route=route) == 1


def app_with(heroes: Engine) -> FastAPI:
    app = FastAPI()

    def session() -> Iterator[Session]:
        with Session(heroes) as session:
            yield session

    @app.post("/heroes/{name}")
    def add(name: str, session: Annotated[Session, Depends(session)]) -> None:
        session.add(Hero(name=name))
        session.commit()

    @app.post("/forgotten/{name}")
    def forget(name: str, session: Annotated[Session, Depends(session)]) -> None:
        session.add(Hero(name=name))
        session.flush()

    @app.get("/heroes")
    def names(session: Annotated[Session, Depends(session)]) -> list[str]:
        return [hero.name for hero in session.exec(select(Hero))]

    app.add_middleware(DBWatchMiddleware, registry=CollectorRegistry())
    return app


def test_with_sqlmodel_statements_are_counted_and_a_forgotten_commit_is_found(heroes: Engine) -> None:
    with TestClient(app_with(heroes)) as client:
        client.post("/heroes/Ada").raise_for_status()
        assert client.get("/heroes").json() == ["Ada"]
        client.post("/forgotten/Bob").raise_for_status()
        assert client.get("/heroes").json() == ["Ada"]
        page = Scrape(client.get("/metrics").text)
    assert page.value("dbwatch_request_statements_total", route="/heroes", method="GET") == 2
    assert page.value("dbwatch_hold_seconds_count", pool="heroes") == 5  # with the one that created the table
    [finding] = dbwatch.findings()[-1:]
    assert (finding.finding, finding.route) == ("lost_write", "/forgotten/{name}")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_on_either_event_loop_the_app_is_watched(loop: Loop, heroes: Engine) -> None:
    with serve(app_with(heroes), loop=loop) as url, httpx.Client(base_url=url, trust_env=False, timeout=30.0) as client:
        client.post("/heroes/Ada").raise_for_status()
        eventually(partial(_counted_once, client, "/heroes/{name}"))


async def test_a_plain_asgi_app_is_watched_without_routes(query: Query) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/metrics":
            await send({"type": "http.response.start", "status": 404, "headers": []})
        else:
            await query()
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    watched = DBWatchMiddleware(app)
    assert (await call(watched, "/orders/7")).status == 200
    assert (await scrape(watched)).routes() == {("GET", "(unmatched)"): 1}


def test_behind_hypercorn_the_app_is_watched(tmp_path: Path) -> None:
    port = free_port()
    server = ServerProcess(
        [sys.executable, "-m", "hypercorn", "demo_app.app:create_app()", f"--bind=127.0.0.1:{port}"],
        log=tmp_path / "log",
        env={"DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}"},
    )
    try:
        server.wait_until(lambda: "Running on" in server.output)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0, trust_env=False) as client:
            client.get("/async/products/1").raise_for_status()
            client.get("/sync/products/1").raise_for_status()
            for kind in ("async", "sync"):
                eventually(partial(_counted_once, client, f"/{kind}/products/{{product_id}}"))
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks on Windows")
def test_the_parent_of_celery_workers_serves_their_metrics(tmp_path: Path) -> None:
    broker, metrics = tmp_path / "broker", tmp_path / "metrics"
    broker.mkdir()
    metrics.mkdir()
    environment = {"BROKER": str(broker), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    celery = [sys.executable, "-m", "celery", "-A", "tests.app.celery_app"]
    options = ["--loglevel=INFO", "--concurrency=2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = ServerProcess([*celery, "worker", *options], log=tmp_path / "log", env=environment)
    try:
        worker.wait_until(lambda: "ready." in worker.output)
        port = int(worker.output.split("port ")[1].split()[0])
        send = "from tests.app.celery_app import query\nfor _ in range(6): query.delay()"
        subprocess.run([sys.executable, "-c", send], env={**os.environ, **environment}, cwd=ROOT, check=True)

        def all_done() -> Scrape:
            page = Scrape(httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=30.0).text)
            assert page.sum("dbwatch_hold_seconds_count", pool="jobs") == 6
            return page

        page = eventually(all_done, every=0.2)
        assert page.sum("dbwatch_connections_opened_total", pool="jobs") <= 2
    finally:
        worker.stop()
