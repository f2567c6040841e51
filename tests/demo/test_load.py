import json
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from sqlalchemy import event
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo_app.load.report import LoadReport, RouteReport
from tests.demo.conftest import shop_app
from tests.servers.asgi import serve
from tests.servers.program import ServerProcess
from tests.servers.waiting import eventually


class Receipts:
    """Counts what an app is asked and answers, by method and route template."""

    def __init__(self, app: FastAPI) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.checkouts = 0
        self._lock = threading.Lock()
        database = app.state.database
        for engine in (database.engine, database.async_engine.sync_engine):
            event.listen(engine, "checkout", self._checked_out)
        app.add_middleware(self._wrap)

    def _wrap(self, app: ASGIApp) -> ASGIApp:
        async def count(scope: Scope, receive: Receive, send: Send) -> None:
            async def counting_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = scope["route"].path if "route" in scope else "(unmatched)"
                    self.answers[scope["method"], route, message["status"]] += 1
                await send(message)

            await app(scope, receive, counting_send)

        return count

    def _checked_out(self, *_: Any) -> None:
        with self._lock:
            self.checkouts += 1


def load(url: str, report: Path, *options: str) -> ServerProcess:
    return ServerProcess(
        [sys.executable, "-m", "demo_app.load", url, "--report", report, *options], log=report.with_suffix(".log")
    )


def answers(report: LoadReport) -> dict[tuple[str, str, int], int]:
    return {
        (route.method, route.route, status): count
        for route in report.routes
        for status, count in route.statuses.items()
    }


def test_the_report_says_what_the_app_got_and_how_many_connections_that_took(database_url: str, tmp_path: Path) -> None:
    app = shop_app(database_url)
    receipts = Receipts(app)
    with serve(app) as url:
        before = receipts.checkouts
        program = load(url, tmp_path / "report.json", "--duration", "6", "--users", "8", "--rate", "60")
        eventually(lambda: not program.running, timeout=60)
        assert program.stop() == 0, program.output
        checkouts = receipts.checkouts - before
    report = LoadReport.read(tmp_path / "report.json")
    assert answers(report) == receipts.answers
    assert report.checkouts() == checkouts
    assert report.unexpected == 0, program.output
    assert set(report.statuses) >= {200, 201, 404, 422}
    assert 0 < report.checkouts(lambda route: route.route.startswith("/sync")) < checkouts
    # Sixty a second are a bound, and chance gives or takes some: ten standard deviations.
    assert 60 < report.requests < 60 * 6 + 16 + 200


def test_a_request_in_flight_when_the_traffic_is_stopped_is_still_counted(tmp_path: Path) -> None:
    arrived, go_on = threading.Event(), threading.Event()
    seen = []
    app = FastAPI()

    @app.get("/{_:path}")
    def slow() -> dict[str, Any]:
        seen.append("GET")
        arrived.set()
        go_on.wait(20)
        return {"items": []}

    with serve(app) as url:
        program = load(url, tmp_path / "report.json", "--users", "1")
        assert arrived.wait(30)
        threading.Timer(0.5, go_on.set).start()
        assert program.stop(signal.SIGTERM) == 0
    report = LoadReport.read(tmp_path / "report.json")
    assert sum(route.statuses[200] for route in report.routes if route.method == "GET") == len(seen)


def test_requests_that_nobody_answers_are_told_apart(tmp_path: Path) -> None:
    program = load("http://127.0.0.1:1", tmp_path / "report.json", "--users", "2", "--duration", "2")
    eventually(lambda: not program.running, timeout=60)
    report = LoadReport.read(tmp_path / "report.json")
    assert report.requests == report.unexpected == sum(route.unanswered for route in report.routes) > 0
    assert report.checkouts() == 0
    assert report.statuses == {}


def test_a_saved_report_is_read_back_unchanged_and_adds_up_for_other_readers(tmp_path: Path) -> None:
    routes = (
        RouteReport("GET", "/sync/products", {200: 5, 503: 1}, 2, 6, 0.004, 0.02),
        RouteReport("POST", "/async/orders", {201: 3}, 0, 3, 0.009, 0.05),
    )
    report = LoadReport(12.5, 3, 0.005, 0.04, routes)
    path = tmp_path / "report.json"
    report.save(path)
    assert LoadReport.read(path) == report
    saved = json.loads(path.read_text())
    assert saved["requests"] == report.requests == 11
    assert saved["checkouts"] == report.checkouts() == 9
    assert report.checkouts(lambda route: route.method == "POST") == 3
    assert report.statuses == {200: 5, 201: 3, 503: 1}
