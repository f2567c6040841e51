"""PostgreSQL is killed and started again while requests come in."""

import threading
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import dbwatch
from dbwatch import DBWatchMiddleware
from dbwatch.ledger import LEDGER
from demo_app.postgres import EmbeddedPostgres
from tests.bookkeeping.books import Books, internal_errors, open_new_books
from tests.servers.asgi import serve
from tests.servers.waiting import eventually

_CLIENTS = 6
_STATEMENT = text("SELECT pg_sleep(0.002)")
_OURS = str(Path(dbwatch.__file__).parent)


@pytest.fixture(scope="module")
def server(postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A server of our own; the shared one is only asked for so that the test skips where there is none."""
    with EmbeddedPostgres() as server:
        yield server


class Shop:
    """An app with one page, which says 503 and why when the database fails it, and counts what it was given."""

    def __init__(self, server: EmbeddedPostgres, driver: str, *, pre_ping: bool) -> None:
        options: dict[str, Any] = {"pool_size": 3, "max_overflow": 2, "pool_timeout": 10, "pool_pre_ping": pre_ping}
        named: dict[str, Any] = {"application_name": "shop"}
        if driver == "asyncpg":
            named = {"server_settings": named}
        options["connect_args"] = named
        self.served: Counter[str] = Counter()
        self._server = server
        if driver == "psycopg":
            self._sync = create_engine(server.url("psycopg"), **options)
            page: Any = self._page
        else:
            self._async = create_async_engine(server.url(driver), **options)
            page = self._async_page
        dbwatch.watch(self._sync if driver == "psycopg" else self._async, "shop")
        self.is_async = driver != "psycopg"
        self.app = Starlette(routes=[Route("/shop/{item}", page)], lifespan=self._lifespan)
        self.app.add_middleware(DBWatchMiddleware, registry=CollectorRegistry())

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        if self.is_async:
            await self._async.dispose()
        else:
            self._sync.dispose()

    def _page(self, _request: Request) -> JSONResponse:
        outcome = "error"
        try:
            with self._sync.connect() as connection:
                outcome = "ok"
                connection.execute(_STATEMENT)
        except Exception as error:  # noqa: BLE001  the page's job
            return _failure(error)
        finally:
            self.served[outcome] += 1
        return JSONResponse({})

    async def _async_page(self, _request: Request) -> JSONResponse:
        outcome = "error"
        try:
            async with self._async.connect() as connection:
                outcome = "ok"
                await connection.execute(_STATEMENT)
        except Exception as error:  # noqa: BLE001  the page's job
            return _failure(error)
        finally:
            self.served[outcome] += 1
        return JSONResponse({})

    def connections(self) -> int:
        """The app's connections, as the server knows them."""
        with psycopg.connect(f"host=127.0.0.1 port={self._server.port} user=postgres dbname=postgres") as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shop'"
            ).fetchone()
            assert found is not None
            return int(found[0])


def _failure(error: Exception) -> JSONResponse:
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return JSONResponse({"error": type(error).__name__, "ours": raised_in.startswith(_OURS)}, status_code=503)


class Load:
    """Clients that ask without a pause, and what they were answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.ours = 0

    def ask(self, client: httpx.Client, item: int) -> int:
        """One request."""
        response = client.get(f"{self._url}/shop/{item}")
        with self._lock:
            self.statuses[response.status_code] += 1
            if response.status_code != 200:
                self.errors[response.json()["error"]] += 1
                self.ours += response.json()["ours"]
        return response.status_code

    def burst(self) -> list[int]:
        """One request of each client at once."""
        barrier = threading.Barrier(_CLIENTS)

        def one(item: int) -> int:
            with httpx.Client(timeout=60) as client:
                barrier.wait(20)
                return self.ask(client, item)

        with ThreadPoolExecutor(_CLIENTS) as executor:
            return list(executor.map(one, range(_CLIENTS)))

    def _run(self, number: int) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop.is_set():
                self.ask(client, number)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask for the length of the block."""
        with ThreadPoolExecutor(_CLIENTS) as executor:
            clients = [executor.submit(self._run, number) for number in range(_CLIENTS)]
            try:
                yield
            finally:
                self._stop.set()
            for client in clients:
                client.result()

    def wait_for(self, status: int, more: int) -> None:
        """Wait until ``more`` further answers of a status have come."""
        wanted = self.statuses[status] + more
        eventually(lambda: self.statuses[status] >= wanted)


def _everything_is_in_order(shop: Shop, books: Books) -> None:
    checkouts = {outcome: count for outcome, count in books.observed("dbwatch_checkout_seconds").items() if count}
    assert checkouts == {outcome: count for outcome, count in shop.served.items() if count}
    assert books.observed("dbwatch_hold_seconds")[""] == shop.served["ok"]
    pool = books.snapshot()
    assert (pool.used, pool.waiters, pool.overflow, pool.leaked, pool.holders) == (0, 0, 0, 0, ())
    assert eventually(lambda: shop.connections() == books.snapshot().idle, 10)
    opened = books.total("dbwatch_connections_opened_total")
    assert opened - books.total("dbwatch_connections_closed_total") == pool.idle
    assert internal_errors() == {}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_with_pre_ping_a_killed_server_under_load_costs_failed_pings_by_route_and_leaves_the_gauges_right(
    server: EmbeddedPostgres, driver: str
) -> None:
    open_new_books()
    books = Books("shop")
    shop = Shop(server, driver, pre_ping=True)
    with serve(shop.app) as url:
        load = Load(url)
        with load.running():
            load.wait_for(200, 60)
            server.stop("immediate")
            load.wait_for(503, 10)
            server.start()
            load.wait_for(200, 60)
        assert load.burst() == [200] * _CLIENTS
        # Again with nobody asking: every idle connection is dead, and no request notices.
        server.restart("immediate")
        failures = books.total("dbwatch_pre_ping_failures_total")
        assert load.burst() == [200] * _CLIENTS
        dbwatch.flush()
        assert books.total("dbwatch_pre_ping_failures_total") > failures
        assert load.ours == 0, load.errors
        _everything_is_in_order(shop, books)
    failures = books.total("dbwatch_pre_ping_failures_total")
    events = LEDGER.accumulators.counters["dbwatch_route_events_total"]
    assert events["shop", "GET", "/shop/{item}", "pre_ping_failure"].value == failures
    assert books.counted("dbwatch_connections_closed_total")["pre_ping"] == failures


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_without_pre_ping_the_stale_connections_fail_requests_and_are_counted_as_invalidated(
    server: EmbeddedPostgres, driver: str
) -> None:
    open_new_books()
    books = Books("shop")
    shop = Shop(server, driver, pre_ping=False)
    with serve(shop.app) as url:
        load = Load(url)
        with load.running():
            load.wait_for(200, 60)
        idle = books.snapshot().idle
        assert idle == shop.connections() > 0
        server.restart("immediate")
        assert 503 in load.burst()
        assert load.burst() == [200] * _CLIENTS
        assert load.ours == 0, load.errors
        dbwatch.flush()
        assert books.total("dbwatch_pre_ping_failures_total") == 0
        assert books.counted("dbwatch_connections_closed_total")["invalidated"] >= idle
        _everything_is_in_order(shop, books)
