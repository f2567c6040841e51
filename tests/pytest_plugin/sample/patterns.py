"""The ways in which projects give each test a clean database. None of them makes a mistake, whatever it looks like."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from httpx import ASGITransport, AsyncClient
from sqlalchemy import (
    AsyncAdaptedQueuePool,
    Connection,
    Engine,
    NullPool,
    QueuePool,
    StaticPool,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.findings.apps.shop import CUSTOMERS, ORDERS_EACH, Base, Order, create_shop

ORDERS = CUSTOMERS * ORDERS_EACH

# The app under test: correct, sync and async.


def get_session() -> Iterator[Session]:
    raise NotImplementedError("every test puts its own in its place")


async def get_async_session() -> AsyncIterator[AsyncSession]:
    raise NotImplementedError("every test puts its own in its place")
    yield


app = FastAPI()


@app.post("/orders", status_code=201)
def place_order(session: Annotated[Session, Depends(get_session)]) -> int:
    order = Order(state="new")
    session.add(order)
    session.commit()
    return order.number


@app.get("/orders")
def count_orders(session: Annotated[Session, Depends(get_session)]) -> int:
    return session.scalar(select(func.count()).select_from(Order)) or 0


@app.post("/async/orders", status_code=201)
async def place_order_async(session: Annotated[AsyncSession, Depends(get_async_session)]) -> int:
    order = Order(state="new")
    session.add(order)
    await session.commit()
    return order.number


@app.get("/async/orders")
async def count_orders_async(session: Annotated[AsyncSession, Depends(get_async_session)]) -> int:
    return await session.scalar(select(func.count()).select_from(Order)) or 0


@pytest.fixture(autouse=True)
def no_overrides() -> Iterator[None]:
    yield
    app.dependency_overrides.clear()


def two_orders(client: TestClient) -> None:
    before = client.get("/orders").json()
    assert [client.post("/orders").status_code for _ in range(2)] == [201, 201]
    assert client.get("/orders").json() == before + 2


# One engine for the session, as most projects have it.


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('shop') / 'shop.db'}"
    create_shop(url)
    return url


def with_savepoints(engine: Engine) -> Engine:
    """SQLAlchemy's recipe for SQLite: its driver begins no transaction before a savepoint."""

    @event.listens_for(engine, "connect")
    def leave_it_to_us(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


@pytest.fixture(scope="session")
def engine(url: str) -> Iterator[Engine]:
    engine = with_savepoints(create_engine(url, poolclass=QueuePool, connect_args={"check_same_thread": False}))
    yield engine
    engine.dispose()


# A transaction around each test, rolled back at its end ("joining a session into an external transaction").


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        transaction = connection.begin()
        yield connection
        transaction.rollback()


@pytest.fixture
def session(connection: Connection) -> Iterator[Session]:
    session = Session(connection, join_transaction_mode="create_savepoint")
    yield session
    session.close()


@pytest.mark.parametrize("again", [1, 2])
def test_one_session_in_a_transaction_around_the_test(session: Session, again: int) -> None:
    app.dependency_overrides[get_session] = lambda: session
    with TestClient(app) as client:
        assert client.get("/orders").json() == ORDERS
        two_orders(client)
    assert session.scalar(select(func.count()).select_from(Order)) == ORDERS + 2


@pytest.mark.parametrize("again", [1, 2])
def test_a_session_for_each_request_in_a_transaction_around_the_test(connection: Connection, again: int) -> None:
    def override() -> Iterator[Session]:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session

    app.dependency_overrides[get_session] = override
    client = TestClient(app)  # without its context: no lifespan, an event loop for each request
    assert client.get("/orders").json() == ORDERS
    two_orders(client)


def test_a_transaction_around_each_request(engine: Engine) -> None:
    def override() -> Iterator[Session]:
        with engine.connect() as connection:
            transaction = connection.begin()
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                yield session
            transaction.rollback()

    app.dependency_overrides[get_session] = override
    with TestClient(app) as client:
        assert client.post("/orders").status_code == 201
        assert client.get("/orders").json() == ORDERS


def test_requests_at_once_in_the_transaction_of_the_test(connection: Connection) -> None:
    """Only in the test do they have one connection."""
    both, in_turn = threading.Barrier(2), threading.Lock()

    def override() -> Iterator[Session]:
        both.wait(60)
        with in_turn, Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        both.wait(60)

    app.dependency_overrides[get_session] = override
    with TestClient(app) as client:
        threads = [threading.Thread(target=client.get, args=("/orders",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_a_scoped_session_of_the_whole_run(engine: Engine) -> None:
    registry = scoped_session(sessionmaker(engine))

    def override() -> Iterator[Session]:
        try:
            yield registry()
        finally:
            registry.remove()

    app.dependency_overrides[get_session] = override
    with TestClient(app) as client:
        two_orders(client)
    with engine.begin() as connection:
        connection.execute(Base.metadata.tables["orders"].delete().where(Order.number > ORDERS))


# A database for each test.


@pytest.mark.parametrize("again", [1, 2])
@pytest.mark.parametrize("pool", [StaticPool, QueuePool, NullPool])
def test_a_database_for_each_test(pool: Any, again: int, tmp_path: Path) -> None:
    url = "sqlite://" if pool is StaticPool else f"sqlite:///{tmp_path / 'own.db'}"
    engine = create_engine(url, poolclass=pool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)

    def override() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    app.dependency_overrides[get_session] = override
    with TestClient(app) as client:
        two_orders(client)
    engine.dispose()


# An engine that the app makes when it is first needed, which is in a request of each test.


@pytest.mark.parametrize("again", [1, 2, 3])
def test_an_engine_made_anew_for_each_test(url: str, again: int) -> None:
    @lru_cache
    def get_engine() -> Engine:
        return create_engine(url)

    def override() -> Iterator[Session]:
        with Session(get_engine()) as session:
            yield session

    app.dependency_overrides[get_session] = override
    assert TestClient(app).get("/orders").json() == ORDERS
    get_engine().dispose()


# A connection that a fixture of the session holds, and one that a test leaves in a fixture of the module.


@pytest.fixture(scope="session")
def watcher(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


def test_a_connection_held_for_the_whole_run(watcher: Connection) -> None:
    assert watcher.scalar(select(func.count()).select_from(Order)) == ORDERS


def test_a_connection_given_back_by_a_finalizer(engine: Engine, request: pytest.FixtureRequest) -> None:
    connection = engine.connect()
    request.addfinalizer(connection.close)
    assert connection.scalar(select(func.count()).select_from(Order)) == ORDERS


# The same with an event loop.


@pytest.fixture
async def async_engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url.replace("sqlite", "sqlite+aiosqlite"), poolclass=AsyncAdaptedQueuePool)
    with_savepoints(engine.sync_engine)
    yield engine
    await engine.dispose()


@pytest.fixture
async def async_connection(async_engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with async_engine.connect() as connection:
        transaction = await connection.begin()
        yield connection
        await transaction.rollback()


@pytest.fixture
async def async_client() -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


async def two_async_orders(client: AsyncClient) -> None:
    assert (await client.get("/async/orders")).json() == ORDERS
    assert [(await client.post("/async/orders")).status_code for _ in range(2)] == [201, 201]
    assert (await client.get("/async/orders")).json() == ORDERS + 2


@pytest.mark.parametrize("again", [1, 2])
async def test_one_async_session_in_a_transaction_around_the_test(
    async_connection: AsyncConnection, async_client: AsyncClient, again: int
) -> None:
    async with AsyncSession(
        async_connection, join_transaction_mode="create_savepoint", expire_on_commit=False
    ) as session:
        app.dependency_overrides[get_async_session] = lambda: session
        await two_async_orders(async_client)


@pytest.mark.parametrize("again", [1, 2])
async def test_an_async_session_for_each_request_in_a_transaction_around_the_test(
    async_connection: AsyncConnection, async_client: AsyncClient, again: int
) -> None:
    async def override() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(
            async_connection, join_transaction_mode="create_savepoint", expire_on_commit=False
        ) as session:
            yield session

    app.dependency_overrides[get_async_session] = override
    await two_async_orders(async_client)


async def test_requests_at_once_with_a_session_each(async_engine: AsyncEngine, async_client: AsyncClient) -> None:
    async def override() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(async_engine) as session:
            yield session

    app.dependency_overrides[get_async_session] = override
    answers = await asyncio.gather(*(async_client.get("/async/orders") for _ in range(4)))
    assert [answer.json() for answer in answers] == [ORDERS] * 4


class TestWithAnyIO:
    """The plugin of AnyIO in the place of pytest-asyncio's."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.mark.anyio
    async def test_a_request(self, url: str, anyio_backend: str) -> None:
        engine = create_async_engine(url.replace("sqlite", "sqlite+aiosqlite"), poolclass=AsyncAdaptedQueuePool)

        async def override() -> AsyncIterator[AsyncSession]:
            async with AsyncSession(engine) as session:
                yield session

        app.dependency_overrides[get_async_session] = override
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/async/orders")).json() == ORDERS
        await engine.dispose()
