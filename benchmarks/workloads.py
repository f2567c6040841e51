"""What the measured requests do: the same small app for every variant, with one endpoint for each workload."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from sqlalchemy import Engine, create_engine, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.inline_sqlite import creator


class Base(DeclarativeBase):
    pass


class Item(Base):
    """A row of the only table."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]
    description: Mapped[str]


ROWS = 100
#: All different, so that nobody takes them for a query in a loop.
_STATEMENTS = tuple(select(Item.price.label(f"price_{number}")).where(Item.id == 7) for number in range(100))


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request: its path, the SQLAlchemy driver behind it, and its checkouts and statements."""

    name: str
    title: str
    path: str
    driver: str
    checkouts: int
    statements: int
    #: Requests that hold their connections at the same time.
    at_once: int = 1
    #: Routes with the same endpoint, asked in turn.
    routes: int = 1

    @property
    def paths(self) -> tuple[str, ...]:
        """What is asked, in turn."""
        return tuple(f"{self.path}-{number}" for number in range(self.routes)) if self.routes > 1 else (self.path,)

    @property
    def needs_postgres(self) -> bool:
        """True if the driver talks to PostgreSQL."""
        return self.driver in ("psycopg", "asyncpg")


def _cycles(number: int) -> Workload:
    title = f"async endpoint, {number} checkouts one after another, no statement"
    return Workload(f"cycles-{number}", title, f"/cycles/{number}", "inline", number, 0)


def _holders(number: int) -> Workload:
    title = f"{number} async endpoints that hold a connection at once, 1 statement each"
    return Workload(f"holders-{number}", title, f"/held/{number}", "inline", 1, 1, at_once=number)


def _routes(number: int) -> Workload:
    title = f"{number} routes in turn, async endpoint, 1 statement"
    return Workload(f"routes-{number}", title, "/route", "inline", 1, 1, routes=number)


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("plain", "async endpoint, no database", "/plain", "inline", 0, 0),
        Workload("inline-1", "async endpoint, 1 statement, SQLite without threads", "/statements/1", "inline", 1, 1),
        Workload(
            "inline-10", "async endpoint, 10 statements, SQLite without threads", "/statements/10", "inline", 1, 10
        ),
        Workload(
            "inline-100", "async endpoint, 100 statements, SQLite without threads", "/statements/100", "inline", 1, 100
        ),
        Workload("sqlite-1", "async endpoint, 1 statement, aiosqlite", "/statements/1", "aiosqlite", 1, 1),
        Workload("sqlite-10", "async endpoint, 10 statements, aiosqlite", "/statements/10", "aiosqlite", 1, 10),
        Workload("thread-1", "threadpool endpoint, 1 statement, sqlite3", "/threaded/1", "pysqlite", 1, 1),
        Workload("thread-10", "threadpool endpoint, 10 statements, sqlite3", "/threaded/10", "pysqlite", 1, 10),
        *(_cycles(number) for number in (1, 101)),
        *(_holders(number) for number in (1, 10, 100)),
        *(_routes(number) for number in (10, 200, 2000)),
        Workload("psycopg", "async endpoint, ORM read, psycopg, PostgreSQL", "/items/7", "psycopg", 1, 1),
        Workload("asyncpg", "async endpoint, ORM read, asyncpg, PostgreSQL", "/items/7", "asyncpg", 1, 1),
    )
}


def fill(url: str) -> None:
    """Create the table and its rows with a synchronous driver."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Item(id=n, name=f"item {n}", price=n * 10, description="a row" * 5) for n in range(1, ROWS + 1))
        session.commit()
    engine.dispose()


@dataclass(frozen=True, slots=True)
class Bench:
    """A workload's app and engine, before any variant has touched them."""

    app: FastAPI
    engine: Engine
    close: Callable[[], Awaitable[None]]


def build(workload: Workload, url: str) -> Bench:
    """The app and engine of a workload."""
    if workload.driver == "pysqlite":
        return _threaded(url)
    if workload.driver == "inline":
        options = {"async_creator": creator(str(make_url(url).database)), "pool_size": max(5, workload.at_once)}
        return _asynchronous(url, workload.routes, **options)
    return _asynchronous(url)


def _asynchronous(url: str, routes: int = 1, **options: Any) -> Bench:
    app = FastAPI()
    engine = create_async_engine(url, **options)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def get_db() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    database = Depends(get_db)

    @app.get("/plain")
    async def plain() -> dict[str, int]:
        return {"price": 70}

    @app.get("/statements/{count}")
    async def statements(count: int, session: Annotated[AsyncSession, database]) -> dict[str, Any]:
        price = None
        for statement in _STATEMENTS[:count]:
            price = await session.scalar(statement)
        return {"price": price}

    for number in range(routes if routes > 1 else 0):
        app.add_api_route(f"/route-{number}", partial(statements, 1))
    _add_holders(app, engine, database)

    @app.get("/items/{item_id}")
    async def item(item_id: int, session: Annotated[AsyncSession, database]) -> dict[str, Any]:
        found = await session.get_one(Item, item_id)
        return {"id": found.id, "name": found.name, "price": found.price, "description": found.description}

    return Bench(app, engine.sync_engine, engine.dispose)


def _add_holders(app: FastAPI, engine: AsyncEngine, database: Any) -> None:
    @app.get("/cycles/{count}")
    async def cycles(count: int) -> dict[str, int]:
        for _ in range(count):
            async with engine.connect():
                pass
        return {"price": 70}

    holding: list[asyncio.Future[None]] = []

    @app.get("/held/{count}")
    async def held(count: int, session: Annotated[AsyncSession, database]) -> dict[str, Any]:
        price = await session.scalar(_STATEMENTS[0])
        holding.append(asyncio.get_running_loop().create_future())
        mine = holding[-1]
        if len(holding) == count:
            for waiting in holding:
                waiting.set_result(None)
            holding.clear()
        await mine
        return {"price": price}


def _threaded(url: str) -> Bench:
    app = FastAPI()
    engine = create_engine(url)
    sessions = sessionmaker(engine, expire_on_commit=False)

    def get_db() -> Iterator[Session]:
        with sessions() as session:
            yield session

    database = Depends(get_db)

    @app.get("/threaded/{count}")
    def threaded(count: int, session: Annotated[Session, database]) -> dict[str, Any]:
        price = None
        for statement in _STATEMENTS[:count]:
            price = session.scalar(statement)
        return {"price": price}

    async def close() -> None:
        engine.dispose()

    return Bench(app, engine, close)
