"""The app of the fault matrix. ``bare`` has never heard of dbwatch; ``watched`` is the same with its middleware.

``SHOP_ENGINES`` in the environment maps the names of engines to their URLs; a name that ends in ``-ping`` means
``pool_pre_ping``. Errors that a page does not catch are answered by the app's own handler, outside dbwatch, with the
type and text of each error of the chain, so that a client sees what became of them on their way.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection, create_engine, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SIZE, LIMIT = 2, 3
PAGES = ("read", "write", "session", "caught", "blocked", "full", "fill")
#: Waits until the gate is opened. (PostgreSQL words the cancelling of a wait for a row by who waits before it.)
_BLOCKED = {
    "postgresql": text("SELECT pg_advisory_xact_lock(1)"),
    "mariadb": text("SELECT id FROM gate FOR UPDATE"),
}
#: The server says that its disk is full; what is tested is what becomes of its answer.
_FULL = {
    "postgresql": text("DO $$ BEGIN RAISE 'No space left on device' USING ERRCODE = 'disk_full'; END $$"),
    "mariadb": text("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'"),
}
_READ, _WRITE = text("SELECT 42"), text("INSERT INTO visit VALUES (1)")


class Shop:
    """The pages of one engine, and what the app itself knows of its checkouts."""

    def __init__(self, name: str, url: str) -> None:
        parsed = make_url(url)
        dialect = parsed.get_backend_name()
        self.statements = {"blocked": _BLOCKED[dialect], "full": _FULL[dialect]}
        self.checkouts: Counter[str] = Counter()
        options: dict[str, Any] = {
            "pool_size": SIZE,
            "max_overflow": LIMIT - SIZE,
            "pool_timeout": 0.5,
            "pool_pre_ping": name.endswith("-ping"),
            "pool_logging_name": name,
            "connect_args": {"prepare_threshold": None} if name.startswith("bouncer") else {},
        }
        self.is_async = parsed.get_dialect().is_async
        if self.is_async:
            self.asynchronous = create_async_engine(url, **options)
            self.engine = self.asynchronous.sync_engine
        else:
            self.engine = create_engine(url, **options)

    def state(self) -> dict[str, Any]:
        """The pool as SQLAlchemy counts it, and how the checkouts went."""
        pool: Any = self.engine.pool
        return {"out": pool.checkedout(), "in": pool.checkedin(), "checkouts": dict(self.checkouts)}

    async def dispose(self) -> None:
        """Close what is idle."""
        if self.is_async:
            await self.asynchronous.dispose()
        else:
            self.engine.dispose()

    async def answer(self, page: str) -> str:
        """One page: in the thread pool with a sync engine, on the loop with an async one."""
        if self.is_async:
            found: str = await getattr(self, f"_{page}_async", partial(self._query_async, page))()
        else:
            found = await run_in_threadpool(getattr(self, f"_{page}", partial(self._query, page)))
        return found

    @contextmanager
    def _counted(self) -> Iterator[None]:
        outcome = "cancelled"
        try:
            yield
            outcome = "ok"
        except exc.TimeoutError:
            outcome = "timeout"
            raise
        except Exception:
            outcome = "error"
            raise
        finally:
            self.checkouts[outcome] += 1

    def _connect(self) -> Connection:
        with self._counted():
            return self.engine.connect()

    @asynccontextmanager
    async def _connect_async(self) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            connecting = self.asynchronous.connect()
            with self._counted():
                connection = await stack.enter_async_context(connecting)
            yield connection

    def _query(self, page: str) -> str:
        with self._connect() as connection:
            result = connection.execute(self.statements.get(page, _READ))
            return str(result.scalar())

    async def _query_async(self, page: str) -> str:
        async with self._connect_async() as connection:
            result = await connection.execute(self.statements.get(page, _READ))
            return str(result.scalar())

    def _write(self) -> str:
        with self._connect() as connection, connection.begin():
            return str(connection.execute(_WRITE).rowcount)

    async def _write_async(self) -> str:
        async with self._connect_async() as connection, connection.begin():
            return str((await connection.execute(_WRITE)).rowcount)

    def _session(self) -> str:
        with Session(self.engine) as session:
            with self._counted():
                session.connection()
            try:
                session.execute(_WRITE)
                return str(session.scalar(_READ))
            except Exception:
                session.rollback()
                raise

    async def _session_async(self) -> str:
        async with AsyncSession(self.asynchronous) as session:
            with self._counted():
                _ = await session.connection()
            try:
                await session.execute(_WRITE)
                return str(await session.scalar(_READ))
            except Exception:
                await session.rollback()
                raise

    def _fill(self) -> str:
        with ExitStack() as stack:
            held = [stack.enter_context(self._connect()) for _ in range(LIMIT)]
            return " ".join(str(connection.execute(_READ).scalar()) for connection in held)

    async def _fill_async(self) -> str:
        async with AsyncExitStack() as stack:
            held = [await stack.enter_async_context(self._connect_async()) for _ in range(LIMIT)]
            return " ".join([str((await connection.execute(_READ)).scalar()) for connection in held])


def chain(error: BaseException | None) -> list[list[str]]:
    """Type and text of an error and of what it came from."""
    found: list[list[str]] = []
    while error is not None:
        found.append([f"{type(error).__module__}.{type(error).__qualname__}", str(error)])
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


async def _failed(_request: Request, error: Exception) -> Response:
    return JSONResponse({"uncaught": chain(error)}, status_code=500)


def _page(shop: Shop, page: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        if page != "caught":
            return JSONResponse(await shop.answer(page))
        try:
            return JSONResponse(await shop.answer("read"))
        except Exception as error:  # noqa: BLE001  the page's job
            return JSONResponse({"caught": chain(error)}, status_code=503)

    return endpoint


def _app() -> Starlette:
    shops = {name: Shop(name, url) for name, url in json.loads(os.environ["SHOP_ENGINES"]).items()}

    async def state(_request: Request) -> Response:
        found = {name: shop.state() for name, shop in shops.items()}
        return JSONResponse({"engines": found, "dbwatch": "dbwatch" in sys.modules})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        for shop in shops.values():
            await shop.dispose()

    routes = [Route(f"/{name}/{page}", _page(shop, page)) for name, shop in shops.items() for page in PAGES]
    return Starlette(
        routes=[*routes, Route("/state", state)], lifespan=lifespan, exception_handlers={Exception: _failed}
    )


def bare() -> Starlette:
    """The app as it is."""
    return _app()


def watched() -> Starlette:
    """The app with the one line that this project is about."""
    from dbwatch import DBWatchMiddleware

    app = _app()
    app.add_middleware(DBWatchMiddleware)
    return app
