"""An app that makes every kind of trouble on demand. Its database is ``DATABASE_URL``, for psycopg."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as CheckoutTimeout
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import dbwatch

URL = make_url(os.environ["DATABASE_URL"])
SELECT = text("select 1")
NAMED = {"application_name": "main"}

main = create_engine(URL, pool_size=3, max_overflow=5, pool_timeout=5, pool_pre_ping=True, connect_args=NAMED)
narrow = create_engine(URL, pool_size=1, max_overflow=1, pool_timeout=0.3)
unlimited = create_engine(URL, pool_size=1, max_overflow=-1)
down = create_engine(URL.set(port=1), connect_args={"connect_timeout": 2})
modern = create_async_engine(URL.set(drivername="postgresql+asyncpg"))
admin = create_engine(URL, pool_size=1)
for name, engine in {"main": main, "narrow": narrow, "unlimited": unlimited, "down": down, "admin": admin}.items():
    dbwatch.watch(engine, name=name)
dbwatch.watch(modern, name="modern")
kept: list[Connection] = []


async def healthy(_: Request) -> Response:
    """One statement on the async engine."""
    async with modern.connect() as connection:
        await connection.execute(SELECT)
    return PlainTextResponse("ok")


def unbounded(_: Request) -> Response:
    """One statement on an engine without a limit."""
    with unlimited.connect() as connection:
        connection.execute(SELECT)
    return PlainTextResponse("ok")


def work(_: Request) -> Response:
    """Fifteen times the same statement, in a nested checkout."""
    with main.connect() as outer, main.connect() as inner:
        for _number in range(15):
            inner.execute(SELECT)
        outer.execute(SELECT)
    return PlainTextResponse("ok")


async def block(_: Request) -> Response:
    """A synchronous statement on the event loop."""
    with main.connect() as connection:
        connection.execute(text("select pg_sleep(0.1)"))
    return PlainTextResponse("ok")


async def crowd(_: Request) -> Response:
    """More holders than a narrow pool has: some wait, and some time out."""

    def hold(seconds: float) -> None:
        with suppress(CheckoutTimeout), narrow.connect() as connection:
            connection.execute(text(f"select pg_sleep({seconds})"))

    await asyncio.gather(*(run_in_threadpool(hold, seconds) for seconds in (0.2, 0.5, 0.5, 0.5, 0.1)))
    return PlainTextResponse("ok")


def leak(_: Request) -> Response:
    """A connection that nobody gives back."""
    connection = main.connect()
    connection.execute(SELECT)
    kept.append(connection)
    return PlainTextResponse("ok")


def give_back(_: Request) -> Response:
    """The leaked connections, late."""
    while kept:
        kept.pop().close()
    return PlainTextResponse("ok")


def forget(_: Request) -> Response:
    """A connection that is left to the garbage collector."""
    main.connect().execute(SELECT)
    return PlainTextResponse("ok")


def unreachable(_: Request) -> Response:
    """A database that is not there."""
    with suppress(OperationalError):
        down.connect()
    return PlainTextResponse("ok")


def cut(_: Request) -> Response:
    """The server cuts the idle connections of the main pool, which tests them before use."""
    with admin.connect() as connection:
        connection.execute(
            text(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'main' and state = 'idle'"
            )
        )
    return PlainTextResponse("ok")


def many_pools(_: Request) -> Response:
    """More pools than get a name of their own."""
    for number in range(25):
        engine = create_engine("sqlite://")
        dbwatch.watch(engine, name=f"tenant-{number}")
        with engine.connect() as connection:
            connection.execute(SELECT)
    return PlainTextResponse("ok")


def server_settings(_: Request) -> Response:
    """What postgres_exporter says about the server, by its names and labels."""
    with admin.connect() as connection:
        rows = connection.execute(
            text(
                "select name, setting from pg_settings "
                "where name in ('max_connections', 'superuser_reserved_connections')"
            )
        )
        lines = [f'pg_settings_{name}{{server="{URL.host}:{URL.port}"}} {value}' for name, value in rows]
    return PlainTextResponse("\n".join(lines) + "\n")


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Give everything back at the end."""
    yield
    await modern.dispose()


ENDPOINTS: tuple[Any, ...] = (
    *(healthy, unbounded, work, block, crowd, leak, give_back, forget, unreachable, cut, many_pools, server_settings),
)
app = Starlette(routes=[Route(f"/{endpoint.__name__}", endpoint) for endpoint in ENDPOINTS], lifespan=lifespan)
app.add_middleware(dbwatch.DBWatchMiddleware, server_limits=True)
