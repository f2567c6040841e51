"""Nothing that dbwatch shows has a password, a parameter or a header value in it, whatever has gone wrong before."""

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import bindparam, create_engine, exc, text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import dbwatch
from dbwatch import DBWatchMiddleware
from demo_app.postgres import EmbeddedPostgres
from tests.bookkeeping.books import open_new_books
from tests.servers.asgi import serve
from tests.servers.ports import free_port

SECRET = "correct-horse-battery-staple"
_STATEMENT = text("SELECT CAST(:card AS text)").bindparams(bindparam("card", SECRET))


def _url(port: int) -> str:
    query = f"application_name={SECRET}"
    return f"postgresql+psycopg://postgres:{SECRET}@127.0.0.1:{port}/postgres?{query}"


class Shop:
    """Every page goes wrong in another way, with the secret at hand."""

    def __init__(self, url: str, nowhere: str) -> None:
        self.engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
        self.unreachable = create_engine(nowhere)
        self.url, self.kept = url, list[Any]()
        pages = (self.timeout, self.refused, self.lost, self.repeated, self.wrong, self.dsn, self.engines, self.leak)
        self.pages = [page.__name__ for page in pages]
        self.starlette = Starlette(routes=[Route(f"/{page.__name__}", _answering(page)) for page in pages])

    def timeout(self) -> None:
        with self.engine.connect() as connection:
            connection.execute(_STATEMENT)
            self.engine.connect()

    def refused(self) -> None:
        self.unreachable.connect()

    def lost(self) -> None:
        with self.engine.connect() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS card (number text)"))
            connection.commit()
            connection.execute(text("INSERT INTO card VALUES (:card)"), {"card": SECRET})

    def repeated(self) -> None:
        with self.engine.connect() as connection:
            for _ in range(20):
                connection.execute(_STATEMENT)

    def wrong(self) -> None:
        with self.engine.connect() as connection:
            connection.execute(text("SELECT CAST(:card AS integer)"), {"card": SECRET})

    def dsn(self) -> None:
        with self.engine.connect():
            raise RuntimeError(self.url)

    def engines(self) -> None:
        engine = create_engine(self.url)
        engine.connect().close()
        engine.dispose()

    def leak(self) -> None:
        self.kept.append(self.engine.connect())
        self.kept[0].execute(_STATEMENT)

    def close(self) -> None:
        for connection in self.kept:
            connection.close()
        with self.engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS card"))
        self.engine.dispose()
        self.unreachable.dispose()


def _answering(page: Any) -> Any:
    def endpoint(_request: Request) -> PlainTextResponse:
        try:
            page()
        except (exc.SQLAlchemyError, RuntimeError) as error:
            return PlainTextResponse(type(error).__name__, status_code=503)
        return PlainTextResponse("done")

    return endpoint


@pytest.fixture(scope="module")
def said(postgres: EmbeddedPostgres) -> Iterator[dict[str, str]]:
    """Everything that dbwatch said, by where it said it."""
    open_new_books()
    heard: list[str] = []
    findings: list[Any] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(f"{record.getMessage()} {record.__dict__}")

    handler = Listening(logging.DEBUG)
    logger = logging.getLogger("dbwatch")
    logger.addHandler(handler)
    shop = Shop(_url(postgres.port), _url(free_port()))
    shop.starlette.add_middleware(
        DBWatchMiddleware,
        registry=CollectorRegistry(),
        dashboard="/dbwatch",
        readiness_path="/readyz",
        server_timing=True,
        slow_request_seconds=0.000001,
        on_finding=findings.append,
    )
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}"}
    pages: dict[str, str] = {}
    try:
        with serve(shop.starlette) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            timings = []
            for page in (*shop.pages[:-1], "engines", "leak", "timeout"):
                answer = client.get(f"/{page}", params={"token": SECRET})
                timings.append(answer.headers["server-timing"])
            pages["Server-Timing"] = " ".join(timings)
            for path, accept in (
                ("/metrics", "text/plain"),
                ("/metrics", "application/openmetrics-text"),
                ("/dbwatch/", "*/*"),
                ("/dbwatch/api/state", "*/*"),
                ("/readyz", "*/*"),
            ):
                pages[f"{path} {accept}"] = client.get(path, headers={"Accept": accept}).text
        found = dbwatch.findings()
        pages["findings"] = repr(found) + repr(findings)
        pages["snapshot"] = repr(dbwatch.snapshot())
        pages["advice"] = repr(dbwatch.advice())
        pages["log"] = "\n".join(heard)
        pages["kinds"] = " ".join(sorted({finding.finding for finding in found}))
    finally:
        shop.close()
        logger.removeHandler(handler)
    yield pages
    open_new_books()


def test_the_pages_have_gone_wrong_in_all_the_ways_that_are_meant(said: dict[str, str]) -> None:
    kinds = set(said["kinds"].split())
    assert kinds >= {"checkout_timeout", "lost_write", "repeated_statement", "engine_per_request", "leaked_connection"}
    assert "SELECT CAST(" in said["/dbwatch/api/state */*"]
    assert "dbwatch_connect_errors_total" in said["/metrics text/plain"]
    for text_of_it in said.values():
        assert text_of_it


def test_no_secret_is_in_anything_that_dbwatch_says(said: dict[str, str]) -> None:
    assert [where for where, words in said.items() if SECRET in words] == []
