"""An app that does with its connections what apps do, mistakes included, with answers that are the same every time."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

#: Connections that each of the two engines may have out.
LIMIT = 3
#: Every page once, in an order that leaves nothing out: what is leaked is given back before the pools are filled.
PAGES = (
    *("leave", "read", "write", "roll_back", "orm", "forget", "leak", "give_back", "time_out", "drop", "detach"),
    *(
        "invalidate",
        "break_down",
        "new_engine",
        "boom",
        "mistake",
        "read_async",
        "write_async",
        "orm_async",
        "leak_async",
        "give_back_async",
    ),
    *("time_out_async", "stream", "block", "no_such_page", "fill", "fill_async"),
)
_OPTIONS: dict[str, Any] = {"pool_size": 2, "max_overflow": 1, "pool_timeout": 0.05, "pool_pre_ping": True}


class Base(DeclarativeBase):
    """The metadata."""


class Visit(Base):
    """A page that was visited."""

    __tablename__ = "visit"
    page: Mapped[str] = mapped_column(primary_key=True)


class App:
    """The app, its two engines and the connections it has leaked."""

    def __init__(self, database: Path) -> None:
        self.sync = create_engine(f"sqlite:///{database}", poolclass=QueuePool, **_OPTIONS)
        self.asynchronous = create_async_engine(
            f"sqlite+aiosqlite:///{database}", poolclass=AsyncAdaptedQueuePool, **_OPTIONS
        )
        with self.sync.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS visit (page TEXT)"))
            connection.execute(text("DELETE FROM visit"))
        self._leaked: list[Connection] = []
        self._leaked_async: list[AsyncConnection] = []
        routes: list[Any] = [WebSocketRoute("/socket", self.socket)]
        for name in PAGES:
            page = getattr(self, name, None)
            if page is not None:
                routes.append(Route(f"/{name}", page if iscoroutinefunction(page) else _text(page)))
        self.starlette = Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        self.sync.dispose()
        await self.asynchronous.dispose()

    # Pages in the thread pool.

    def read(self) -> str:
        with self.sync.connect() as connection:
            return str(connection.execute(text("SELECT 40 + 2")).scalar())

    def write(self) -> str:
        with self.sync.begin() as connection:
            connection.exec_driver_sql("INSERT INTO visit VALUES ('write')")
            pages = [{"page": "a"}, {"page": "b"}]
            return str(connection.execute(text("INSERT INTO visit VALUES (:page)"), pages).rowcount)

    def roll_back(self) -> str:
        with self.sync.connect() as connection:
            rows = connection.execute(text("INSERT INTO visit VALUES ('lost')")).rowcount
            connection.rollback()
            return str(rows)

    def orm(self) -> str:
        with Session(self.sync) as session:
            session.execute(text("INSERT INTO visit VALUES ('lost')"))
            session.rollback()
            return str(session.scalar(text("SELECT count(*) FROM visit WHERE page = 'lost'")))

    def forget(self) -> str:
        with Session(self.sync) as session:
            session.add(Visit(page="flushed"))
            session.flush()
            session.rollback()
            session.add(Visit(page="forgotten"))
            session.merge(Visit(page="forgotten as well"))
            return str(len(session.new))

    def leak(self) -> str:
        self._leaked.append(self.sync.connect())
        return "leaked"

    def give_back(self) -> str:
        count = len(self._leaked)
        while self._leaked:
            self._leaked.pop().close()
        return str(count)

    def time_out(self) -> str:
        held = [self.sync.connect() for _ in range(LIMIT)]
        try:
            return str(self.sync.connect())
        except exc.TimeoutError as error:
            return str(error)
        finally:
            for connection in held:
                connection.close()

    def drop(self) -> str:
        connection = self.sync.connect()
        connection.execute(text("SELECT 1"))
        del connection
        gc.collect()
        return "dropped"

    def detach(self) -> str:
        with self.sync.connect() as connection:
            connection.detach()
            return str(connection.execute(text("SELECT 3")).scalar())

    def invalidate(self) -> str:
        with self.sync.connect() as connection:
            connection.invalidate()
            return str(connection.execute(text("SELECT 4")).scalar())

    def break_down(self) -> str:
        with self.sync.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.close()
            try:
                return str(connection.execute(text("SELECT 5")).scalar())
            except exc.DBAPIError as error:
                return f"{type(error).__name__} {error.connection_invalidated}"

    def mistake(self) -> str:
        with self.sync.connect() as connection:
            try:
                return str(connection.execute(text("SELECT * FROM nothing")).scalar())
            except exc.OperationalError as error:
                return str(error)

    def new_engine(self) -> str:
        engine = create_engine("sqlite://")
        with engine.connect() as connection:
            found = connection.execute(text("SELECT 6")).scalar()
        engine.dispose()
        return str(found)

    def fill(self) -> str:
        held = [self.sync.connect() for _ in range(LIMIT)]
        for connection in held:
            connection.close()
        return f"{len(held)} of {LIMIT}"

    def boom(self) -> str:
        with self.sync.connect():
            raise RuntimeError("the app's own error")

    # Pages on the event loop.

    async def read_async(self, _request: Request) -> PlainTextResponse:
        async with self.asynchronous.connect() as connection:
            return PlainTextResponse(str((await connection.execute(text("SELECT 7"))).scalar()))

    async def write_async(self, _request: Request) -> PlainTextResponse:
        async with self.asynchronous.begin() as connection:
            found = await connection.execute(text("INSERT INTO visit VALUES ('async')"))
            return PlainTextResponse(str(found.rowcount))

    async def orm_async(self, _request: Request) -> PlainTextResponse:
        async with async_sessionmaker(self.asynchronous).begin() as session:
            session.add(Visit(page="orm_async"))
        async with self.asynchronous.begin() as connection:
            await connection.execute(text("DELETE FROM visit WHERE page = 'orm_async'"))
        return PlainTextResponse("added")

    async def leak_async(self, _request: Request) -> PlainTextResponse:
        self._leaked_async.append(await self.asynchronous.connect())
        return PlainTextResponse("leaked")

    async def give_back_async(self, _request: Request) -> PlainTextResponse:
        count = len(self._leaked_async)
        while self._leaked_async:
            await self._leaked_async.pop().close()
        return PlainTextResponse(str(count))

    async def time_out_async(self, _request: Request) -> PlainTextResponse:
        held = [await self.asynchronous.connect() for _ in range(LIMIT)]
        try:
            return PlainTextResponse(str(await self.asynchronous.connect()))
        except exc.TimeoutError as error:
            return PlainTextResponse(str(error))
        finally:
            for connection in held:
                await connection.close()

    async def stream(self, _request: Request) -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            async with self.asynchronous.connect() as connection:
                statement = text("SELECT 1 UNION SELECT 2").execution_options(stream_results=True)
                async for (number,) in await connection.stream(statement):
                    yield f"{number}\n"

        return StreamingResponse(rows())

    async def leave(self, _request: Request) -> PlainTextResponse:
        async def connections() -> AsyncIterator[AsyncConnection]:
            async with self.asynchronous.connect() as connection:
                try:
                    yield connection
                finally:
                    await asyncio.sleep(0.05)  # several turns of the loop

        async def first() -> object:
            async for connection in connections():
                return (await connection.execute(text("SELECT 8"))).scalar()
            return None

        return PlainTextResponse(str(await first()))

    async def block(self, _request: Request) -> PlainTextResponse:
        return PlainTextResponse(self.read())

    async def fill_async(self, _request: Request) -> PlainTextResponse:
        held = [await self.asynchronous.connect() for _ in range(LIMIT)]
        for connection in held:
            await connection.close()
        return PlainTextResponse(f"{len(held)} of {LIMIT}")

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        async with self.asynchronous.connect() as connection:
            async for message in socket.iter_text():
                found = await connection.execute(text("SELECT :message"), {"message": message})
                await socket.send_text(str(found.scalar()))


def _text(page: Callable[[], str]) -> Callable[[Request], PlainTextResponse]:
    def endpoint(_request: Request) -> PlainTextResponse:
        return PlainTextResponse(page())

    return endpoint
