"""The whole app is killed under load and started again: ``python -m tests.reliability.killed KILLS`` writes its table.

Server and workers get SIGKILL at once, with a real Prometheus scraping, somebody at the live page and connections out.
Then it starts again with the same directories.
"""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from demo_app.postgres import EmbeddedPostgres
from tests.app.scrape import Scrape
from tests.reliability import report
from tests.servers.asgi import UvicornProcess
from tests.servers.ports import free_port
from tests.servers.prometheus import Prometheus
from tests.servers.waiting import eventually

BUYERS, HOLDERS = 4, 2
_CHECKOUTS = "dbwatch_request_checkouts_total"


class Load:
    """Customers who ask without a pause, some who hold a connection, and a viewer of the live page."""

    def __init__(self, url: str) -> None:
        self.answered = 0
        self._url = url
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask until the end."""
        self._stop.clear()
        paths = [*["/products"] * BUYERS, *["/search?seconds=60"] * HOLDERS, "/dbwatch/api/state"]
        threads = [threading.Thread(target=self._ask, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, path: str) -> None:
        # A new connection for each request, so that every worker gets some.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=self._url, timeout=90.0, limits=limits, trust_env=False) as client:
            while not self._stop.is_set():
                with suppress(httpx.TransportError):  # it has been killed
                    client.get(path).raise_for_status()
                    with self._lock:
                        self.answered += path == "/products"


@dataclass
class Outcome:
    """What kills have done."""

    kills: int = 0
    requests: int = 0
    compared: int = 0
    lost: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class App:
    """The shop with some workers, on a port and with directories that it keeps."""

    def __init__(self, directory: Path, postgres: EmbeddedPostgres, workers: int) -> None:
        self.workers = workers
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.url = f"http://{self.address}"
        self.state = directory / "state"
        self.metrics = directory / "metrics"
        self.metrics.mkdir(parents=True)
        self._log = directory / "log"
        self._environment = {
            "DATABASE_URL": postgres.url(),
            "DBWATCH_DASHBOARD": "/dbwatch",
            "DBWATCH_STATE_DIR": str(self.state),
        }
        if workers > 1:
            self._environment["PROMETHEUS_MULTIPROC_DIR"] = str(self.metrics)

    def start(self) -> None:
        """Start it, and wait until every worker has started."""
        self._log.unlink(missing_ok=True)
        self._server = UvicornProcess(
            "tests.live.shop:app",
            self._log,
            env=self._environment,
            workers=self.workers,
            options=(f"--port={self._port}",),
        )

    def kill(self) -> None:
        """SIGKILL to the server and its workers at once."""
        os.killpg(self._server.process.pid, signal.SIGKILL)
        self._server.stop(signal.SIGKILL)

    def pids(self) -> set[int]:
        """The processes that serve."""
        server = psutil.Process(self._server.process.pid)
        if self.workers == 1:
            return {server.pid}
        return {child.pid for child in server.children() if "spawn_main" in " ".join(child.cmdline())}

    def scrape(self) -> Scrape:
        """What it says, by whoever answers."""
        return Scrape(self.get("/metrics").text)

    def get(self, path: str) -> httpx.Response:
        """The answer to a request on a connection of its own."""
        return httpx.get(f"{self.url}{path}", timeout=30.0, trust_env=False).raise_for_status()

    def written(self) -> Scrape:
        """What the files of all processes say, read as any endpoint of the client's does."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self.metrics))  # type: ignore[no-untyped-call]
        return Scrape(generate_latest(registry).decode())


def kill_and_start_again(app: App, prometheus: Prometheus, outcome: Outcome) -> None:
    """Kill the app under load once, start it again, and note what was lost and what was left."""
    load = Load(app.url)
    checkouts, used = (f'sum({name}{{job="{app.address}"}})' for name in (_CHECKOUTS, "dbwatch_route_connections"))
    before = prometheus.value(checkouts)
    with load.running():
        # Prometheus has seen the load and the connections that are out.
        prometheus.wait_for(checkouts, lambda now: now > before + 50)
        prometheus.wait_for(used, lambda now: now >= HOLDERS)
        answered = load.answered
        last = app.scrape()
        app.kill()
    outcome.kills += 1
    outcome.requests += load.answered
    if app.workers > 1:
        _compare(last.counters(), app.written().counters(), "in the files", outcome)
    else:
        outcome.compared += 1
        if last.sum(_CHECKOUTS, route="/products") < answered:
            outcome.lost.append(f"{answered} requests were answered before the last scrape: {last.routes()}")
    app.start()
    _look_for_leftovers(app, outcome)
    if app.workers > 1:
        _compare(last.counters(), app.scrape().counters(), "after the start", outcome)


def _compare(exported: dict[Any, float], now: dict[Any, float], where: str, outcome: Outcome) -> None:
    outcome.compared += len(exported)
    outcome.lost += [
        f"{where}, {key}: {value} had been exported, now {now.get(key)}"
        for key, value in exported.items()
        if now.get(key, -1.0) < value
    ]


def _page_of_nobody(app: App) -> Scrape:
    """The metrics; fails if a connection is out that the new app may have taken: a client has its answer a little
    before the request gives its connection back. What the dead held is older.
    """
    page = app.scrape()
    assert not 0.0 < page.sum("dbwatch_pool_oldest_checkout_seconds") < 1.0
    return page


def _look_for_leftovers(app: App, outcome: Outcome) -> None:
    """Note what the new app shows or keeps of the dead one."""
    app.get("/products")
    page = eventually(lambda: _page_of_nobody(app), every=0.2)
    shown = {
        "connections used": page.sum("dbwatch_pool_connections", state="used"),
        "waiters": page.sum("dbwatch_pool_waiters"),
        "connections of routes": page.sum("dbwatch_route_connections"),
        "oldest checkout": page.sum("dbwatch_pool_oldest_checkout_seconds"),
        "errors of ours": page.sum("dbwatch_internal_errors_total"),
    }
    outcome.left += [f"{name}: {value}" for name, value in shown.items() if value]
    state = app.get("/dbwatch/api/state").json()
    living = app.pids()
    told = {worker["pid"] for worker in state["workers"]}
    if told != living:
        outcome.left.append(f"workers on the live page: {told}, alive: {living}")
    outcome.left += [f"on the live page: {holder}" for pool in state["pools"] for holder in pool["holders"]]
    kept = {path.name.partition("-")[0] for path in app.state.iterdir()} - {"watched"}
    if kept - set(map(str, living)) or len(list(app.state.iterdir())) > len(living) + 1:
        outcome.left.append(f"files of the live page: {sorted(path.name for path in app.state.iterdir())}")
    gauges = {path.stem.rpartition("_")[2] for path in app.metrics.glob("gauge_live*.db")}
    if gauges - set(map(str, living)):
        outcome.left.append(f"files of gauges: {gauges}, alive: {living}")


def try_out(directory: Path, postgres: EmbeddedPostgres, workers: Sequence[int], kills: int) -> list[Outcome]:
    """Kill an app with each of these numbers of workers so many times."""
    with ExitStack() as stack:
        apps = [App(directory / str(number), postgres, number) for number in workers]
        addresses = [app.address for app in apps]
        prometheus = stack.enter_context(Prometheus(directory, addresses, interval="500ms"))
        for app in apps:
            app.start()
            stack.callback(app.kill)
            app.get("/products")
        prometheus.wait_for_targets()
        return [_kill_repeatedly(app, prometheus, kills) for app in apps]


def _kill_repeatedly(app: App, prometheus: Prometheus, kills: int) -> Outcome:
    outcome = Outcome()
    ours = f'{_CHECKOUTS}{{job="{app.address}",route="/products"}}'
    series = f'count({{__name__=~"dbwatch_.+",job="{app.address}"}})'
    prometheus.wait_for(ours)
    at_first = 0.0
    for number in range(kills):
        kill_and_start_again(app, prometheus, outcome)
        now = app.scrape().sum(_CHECKOUTS, route="/products")
        prometheus.wait_for(ours, now.__eq__)
        if number == 0:
            at_first = prometheus.value(series)
        elif prometheus.value(series) > at_first:
            outcome.left.append(f"series: {at_first} after the first kill, {prometheus.value(series)} now")
    # To Prometheus a counter of one process starts anew, which it knows how to treat; those in files go on.
    resets = prometheus.value(f"resets({ours}[1h])")
    if resets != (kills if app.workers == 1 else 0):
        outcome.lost.append(f"{resets} resets for Prometheus after {kills} kills")
    return outcome


def main() -> None:
    """Kill, and write the table. Exits with what was lost or left."""
    kills, workers, rows, wrong = int(sys.argv[1]), (1, 4), [], []
    with EmbeddedPostgres() as postgres, tempfile.TemporaryDirectory() as directory:
        outcomes = try_out(Path(directory), postgres, workers, kills)
    for number, outcome in zip(workers, outcomes, strict=True):
        lost, left = outcome.lost, outcome.left
        rows.append((number, outcome.kills, outcome.requests, outcome.compared, len(lost), len(left)))
        wrong += [f"{number} workers: {what}" for what in (*lost, *left)]
    heading = ("workers", "kills", "requests answered", "counters compared", "lost", "left behind")
    report.write("killed", report.table(heading, rows))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
