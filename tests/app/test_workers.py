import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import create_engine, text

from demo_app.postgres import EmbeddedPostgres
from tests.app.scrape import Scrape
from tests.servers.asgi import GunicornProcess, ServerOfApp, UvicornProcess
from tests.servers.waiting import eventually

REQUESTS = 300
ROUTE = "/query/{number}"


@dataclass
class Workers:
    """Workers of one app, and what the database knows of them."""

    server: ServerOfApp
    directory: Path
    postgres: EmbeddedPostgres
    application: str
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        # A new connection for each request, so that every worker gets some.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=self.server.url, limits=limits, timeout=30.0, trust_env=False)

    def scrape(self) -> Scrape:
        """What any worker says."""
        return Scrape(self.client.get("/metrics").raise_for_status().text)

    def server_connections(self) -> int:
        """How many connections the database has from the app."""
        engine = create_engine(self.postgres.url())
        with engine.connect() as connection:
            found = connection.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name"), {"name": self.application}
            )
        engine.dispose()
        return int(found or 0)

    def query_until_both_have_answered(self) -> int:
        """Send requests until each worker has answered one; returns how many were sent."""
        pids: set[int] = set()
        sent = 0
        while len(pids) < 2:
            pids.add(self.client.get("/query/1").json())
            sent += 1
            assert sent < 1000
        return sent


@pytest.fixture
def start(tmp_path: Path, postgres: EmbeddedPostgres) -> Iterator[Callable[..., Workers]]:
    """Starts workers of the app behind a server: ``start(UvicornProcess, workers=2)``."""
    with ExitStack() as stack:

        def run(server: Callable[..., ServerOfApp], **options: Any) -> Workers:
            directory = tmp_path / "metrics"
            directory.mkdir()
            application = f"workers-{uuid4().hex[:8]}"
            env = {
                "DATABASE_URL": f"{postgres.url('psycopg_async')}?application_name={application}",
                "PROMETHEUS_MULTIPROC_DIR": str(directory),
            }
            process = server("tests.app.worker_app:app", tmp_path / "server.log", env=env, **options)
            workers = Workers(stack.enter_context(process), directory, postgres, application)
            stack.callback(workers.client.close)
            return workers

        yield run


@pytest.fixture
def workers(start: Callable[..., Workers]) -> Workers:
    """Two workers of uvicorn."""
    return start(UvicornProcess, workers=2)


@asynccontextmanager
async def client_of(workers: Workers) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=workers.server.url, limits=limits, timeout=30.0, trust_env=False) as client:
        yield client


class Load:
    """Clients that send for as long as they are asked to, and scrapes meanwhile."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        #: The worker that answered, for each answer.
        self.pids: list[int] = []
        self.failed = 0
        self.scrapes: list[Scrape] = []

    async def run(self, requests: int, scrapes: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Send this many requests more, and scrape this many times more; call ``meanwhile`` halfway."""
        ends, last = len(self.pids) + requests, len(self.scrapes) + scrapes
        halfway = len(self.scrapes) + scrapes // 2
        async with client_of(self.workers) as client:

            async def send() -> None:
                while len(self.pids) < ends or len(self.scrapes) < last:
                    try:
                        answer = await client.get("/query/7")
                    except httpx.TransportError:  # of the worker that was killed
                        self.failed += 1
                    else:
                        self.pids.append(answer.raise_for_status().json())

            async def scrape() -> None:
                while len(self.scrapes) < last:
                    if len(self.scrapes) == halfway:
                        meanwhile()
                    with suppress(httpx.TransportError):
                        page = (await client.get("/metrics")).raise_for_status().text
                        self.scrapes.append(Scrape(page))

            await asyncio.gather(scrape(), *(send() for _ in range(6)))

    def settle(self, at_least: int, at_most: int) -> Scrape:
        """Scrape until this many checkouts are counted."""

        def all_counted() -> Scrape:
            self.scrapes.append(self.workers.scrape())
            assert at_least <= self.scrapes[-1].sum("dbwatch_request_checkouts_total") <= at_most
            return self.scrapes[-1]

        return eventually(all_counted, every=0.2)

    def nothing_fell(self) -> None:
        """Assert that no counter was ever lower than in the scrape before."""
        for earlier, later in pairwise(map(Scrape.counters, self.scrapes)):
            fell = {key: (value, later.get(key)) for key, value in earlier.items() if later.get(key, -1.0) < value}
            assert not fell


@pytest.mark.parametrize(
    ("server", "scrapes"),
    [
        pytest.param(UvicornProcess, 50, id="uvicorn"),
        pytest.param(partial(GunicornProcess, preload=False), 10, id="gunicorn"),
        pytest.param(partial(GunicornProcess, preload=True), 50, id="gunicorn with preload"),
    ],
)
async def test_under_load_the_numbers_of_four_workers_are_those_of_all_also_when_one_is_killed(
    server: Callable[..., ServerOfApp], scrapes: int, start: Callable[..., Workers]
) -> None:
    workers = start(server, workers=4)
    load = Load(workers)
    await load.run(REQUESTS, scrapes)
    sent = len(load.pids)
    assert len(set(load.pids)) == 4
    assert load.failed == 0

    def is_exact() -> bool:
        # A scrape may fall between two files of a worker that is writing, and see one of them only.
        _is_exact(load.settle(sent, sent), workers, sent)
        return True

    eventually(is_exact, every=0.2)
    load.nothing_fell()

    victim = load.pids[-1]
    await load.run(REQUESTS // 2, 10, meanwhile=lambda: os.kill(victim, signal.SIGKILL))
    eventually(lambda: not psutil.pid_exists(victim))
    workers.scrape()
    assert not list(workers.directory.glob(f"gauge_live*_{victim}.db"))
    # What the victim had not written when it was killed, at most a second's worth, nobody can know.
    unknown = load.pids[sent:].count(victim)
    end = load.settle(len(load.pids) - unknown, len(load.pids) + load.failed)
    load.nothing_fell()
    assert end.sum("dbwatch_internal_errors_total") == 0

    def gauges_are_those_of_the_living() -> bool:
        page = workers.scrape()
        assert page.value("dbwatch_pool_size", pool="shop") == 3 * 4  # a successor has come
        assert page.value("dbwatch_pool_connections", pool="shop", state="used") == 0
        idle = page.value("dbwatch_pool_connections", pool="shop", state="idle")
        return idle == workers.server_connections()

    eventually(gauges_are_those_of_the_living, every=0.2)


def _is_exact(end: Scrape, workers: Workers, sent: int) -> None:
    assert end.routes() == {("GET", ROUTE): sent}
    assert end.value("dbwatch_checkout_seconds_count", pool="shop", outcome="ok") == sent
    assert end.value("dbwatch_checkout_seconds_bucket", pool="shop", outcome="ok", le="+Inf") == sent
    assert end.value("dbwatch_hold_seconds_count", pool="shop") == sent
    assert end.value("dbwatch_request_statements_total", route=ROUTE) == sent
    assert end.value("dbwatch_request_hold_seconds_count", route=ROUTE) == sent
    assert end.value("dbwatch_hold_seconds_sum", pool="shop") > sent * 0.002
    assert end.sum("dbwatch_internal_errors_total") == 0

    # Gauges: every worker has told its last.
    assert end.value("dbwatch_pool_size", pool="shop") == 3 * 4
    assert end.value("dbwatch_pool_limit", pool="shop") == 3 * 4
    assert end.value("dbwatch_pool_timeout_seconds", pool="shop") == 30
    assert end.value("dbwatch_pool_connections", pool="shop", state="used") == 0
    open_now = end.value("dbwatch_pool_connections", pool="shop", state="idle")
    assert open_now == workers.server_connections()
    assert open_now == end.value("dbwatch_connections_opened_total", pool="shop")
    assert end.value("dbwatch_pool_info", pool="shop") == 1
    assert end.value("dbwatch_build_info") == 1


def test_a_killed_worker_leaves_the_gauges_at_once_and_stays_in_the_counters(workers: Workers) -> None:
    sent = workers.query_until_both_have_answered()
    with workers.client.stream("GET", "/hold") as holding:
        lines = holding.iter_lines()
        pid = int(next(lines))

        def both_show() -> Scrape:
            scrape = workers.scrape()
            assert scrape.value("dbwatch_pool_connections", pool="shop", state="used") == 1
            assert scrape.value("dbwatch_request_checkouts_total", route=ROUTE) == sent
            return scrape

        before = eventually(both_show, every=0.1)
        assert before.value("dbwatch_pool_oldest_checkout_seconds", pool="shop") > 0
        assert list(workers.directory.glob(f"gauge_live*_{pid}.db"))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(pid))
        after = workers.scrape()

    assert after.value("dbwatch_pool_connections", pool="shop", state="used") == 0
    assert after.value("dbwatch_pool_oldest_checkout_seconds", pool="shop") == 0
    assert after.sum("dbwatch_route_connections", route="/hold") == 0
    assert after.value("dbwatch_request_checkouts_total", route=ROUTE) == sent
    assert after.value("dbwatch_checkout_seconds_count", pool="shop", outcome="ok") == sent + 1
    assert not list(workers.directory.glob(f"gauge_live*_{pid}.db"))


def test_what_the_last_second_brought_is_written_when_the_workers_stop(workers: Workers) -> None:
    for _ in range(20):
        workers.client.get("/query/1").raise_for_status()
    workers.server.stop()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(workers.directory))  # type: ignore[no-untyped-call]
    end = Scrape(generate_latest(registry).decode())
    assert end.routes() == {("GET", ROUTE): 20}
    assert end.value("dbwatch_hold_seconds_count", pool="shop") == 20
