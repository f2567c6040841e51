"""Correct apps that look faulty at first sight."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, WebSocket
from sqlalchemy import Engine, QueuePool, create_engine, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, selectinload

from tests.findings.apps.shop import Customer, Order, Tag
from tests.findings.apps.writes import word
from tests.findings.stage import Stage

MANY = 6000


def engines_of_tenants(stage: Stage) -> None:
    """A cache of engines that drops the oldest, and makes it anew when its tenant comes back."""
    engines: dict[str, Engine] = {}

    def engine_for(tenant: str) -> Engine:
        if tenant not in engines:
            while engines:
                engines.popitem()[1].dispose()
            engines[tenant] = create_engine(stage.url)
        return engines[tenant]

    @stage.app.get("/{tenant}")
    def read(tenant: str) -> None:
        with Session(engine_for(tenant)) as session:
            session.execute(text("SELECT 1"))

    def forget() -> None:
        for engine in engines.values():
            engine.dispose()

    stage.at_end.append(forget)


def engine_that_is_replaced(stage: Stage) -> None:
    """New credentials at run time: an endpoint makes another engine for all."""
    current = {"engine": create_engine(stage.url)}

    @stage.app.get("/replace")
    def replace() -> None:
        current["engine"].dispose()
        current["engine"] = create_engine(stage.url)

    @stage.app.get("/read")
    def read() -> None:
        with Session(current["engine"]) as session:
            session.execute(text("SELECT 1"))

    def forget() -> None:
        current["engine"].dispose()

    stage.at_end.append(forget)


def two_connections_of_a_pool_without_limit(stage: Stage) -> None:
    engine = stage.async_engine(pool_size=1, max_overflow=-1)

    @stage.app.get("/")
    async def read() -> None:
        async with AsyncSession(engine) as one, AsyncSession(engine) as other:
            await one.execute(text("SELECT 1"))
            await other.execute(text("SELECT 1"))


def gather_without_holding(stage: Stage) -> None:
    """Three tasks, each with a connection of its own, and nobody who holds one meanwhile."""
    engine = stage.async_engine(pool_size=20)

    async def count() -> Any:
        async with AsyncSession(engine) as session:
            return await session.scalar(text("SELECT count(*) FROM orders"))

    @stage.app.get("/")
    async def read() -> int:
        return len(await asyncio.gather(count(), count(), count()))


def second_session_after_a_commit(stage: Stage) -> None:
    """The dependency's session has given its connection back."""
    engine = stage.async_engine(pool_size=20)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @stage.app.get("/")
    async def read(session: Annotated[AsyncSession, Depends(get_session)]) -> None:
        await session.execute(text("SELECT 1"))
        await session.commit()
        async with AsyncSession(engine) as other:
            await other.execute(text("SELECT 1"))


def batches(stage: Stage) -> None:
    """``selectinload`` sends the same statement for every 500 parents; that is no N+1."""
    engine = stage.async_engine(pool_size=20)

    @stage.app.get("/")
    async def read() -> int:
        async with AsyncSession(engine) as session:
            await session.execute(
                insert(Customer), [{"id": number, "name": "one of many"} for number in range(1000, 1000 + MANY)]
            )
            customers = await session.scalars(select(Customer).options(selectinload(Customer.orders)))
            count = len(customers.all())
            await session.rollback()
            return count


def engines_of_schemas(stage: Stage) -> None:
    """One database, and an engine for each tenant's schema, made when it first asks and kept."""
    engines: dict[str, Engine] = {}

    @stage.app.get("/{tenant}")
    def read(tenant: str) -> int:
        if tenant not in engines:
            if stage.name.startswith("postgres"):
                engines[tenant] = create_engine(stage.url, connect_args={"options": f"-csearch_path={tenant},public"})
            else:
                engines[tenant] = create_engine(stage.url, execution_options={"schema_translate_map": {"t": tenant}})
            stage.engines.append(engines[tenant])
        with Session(engines[tenant]) as session:
            return session.scalars(select(Order.number).limit(1)).one()


def engines_that_expire(stage: Stage) -> None:
    """Each tenant's engine is kept for the next request, and disposed of when there was none for a while."""
    engines: dict[str, Engine] = {}

    def expire() -> None:
        while engines:
            engines.popitem()[1].dispose()

    @stage.app.get("/tenants/{tenant}")
    def read(tenant: str) -> None:
        if tenant not in engines:
            engines[tenant] = create_engine(stage.url, poolclass=QueuePool)
        with Session(engines[tenant]) as session:
            session.execute(text("SELECT 1"))

    stage.app.add_api_route("/expire", expire)
    stage.at_end.append(expire)


def websocket_messages(stage: Stage) -> None:
    """One statement for each message, and many messages."""
    engine = stage.async_engine(pool_size=20)

    @stage.app.websocket("/live")
    async def follow(socket: WebSocket) -> None:
        await socket.accept()
        async for number in socket.iter_text():
            async with AsyncSession(engine) as session:
                order = await session.get(Order, int(number))
            await socket.send_text(order.state if order else "unknown")


def rollback_in_another_thread(stage: Stage) -> None:
    """Written in a thread of the request, and taken back in one that knows nothing of it."""
    sqlite = stage.name.startswith("sqlite")
    engine = stage.engine(pool_size=20, connect_args={"check_same_thread": False} if sqlite else {})

    def write(session: Session) -> None:
        session.execute(text("INSERT INTO tags (name) VALUES (:name)"), {"name": word()})

    def take_back(session: Session) -> None:
        session.rollback()
        session.close()

    @stage.app.get("/")
    async def try_out() -> None:
        session = Session(engine)
        await asyncio.to_thread(write, session)
        await asyncio.get_running_loop().run_in_executor(None, take_back, session)


def two_phases(stage: Stage) -> None:
    """Prepared and committed by name; the connection itself never sees a COMMIT."""
    engine = stage.engine(pool_size=20)

    @stage.app.get("/")
    def write() -> None:
        with engine.connect() as connection:
            transaction = connection.begin_twophase()
            connection.execute(insert(Tag), {"name": word()})
            transaction.prepare()
            transaction.commit()
        with engine.connect() as connection:
            transaction = connection.begin_twophase()
            connection.execute(insert(Tag), {"name": word()})
            transaction.commit()


def statement_killed_under_way(stage: Stage) -> None:
    """The connection was alive when the statement began: no test before use would have helped."""
    engine = stage.async_engine(pool_size=1, max_overflow=0)

    @stage.app.get("/{seconds}")
    async def wait(seconds: float) -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text(f"SELECT pg_sleep({seconds})"))


def work_with_the_drivers_own_connection(stage: Stage) -> None:
    """COPY and the like pass SQLAlchemy by."""
    engine = stage.async_engine(pool_size=20)

    @stage.app.get("/")
    async def copy() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1"))
            raw = await connection.get_raw_connection()
            assert raw.driver_connection is not None
            await raw.driver_connection.execute("SELECT pg_sleep(0.3)")


def task_that_works_on(stage: Stage) -> None:
    """Spawned by a request, with a session of its own, and long after it."""
    engine = stage.async_engine(pool_size=20)
    tasks = set()

    async def work() -> None:
        for _ in range(3):
            async with AsyncSession(engine) as session:
                await session.execute(text("SELECT count(*) FROM orders"))
                await asyncio.sleep(0.002)

    @stage.app.get("/")
    async def start() -> None:
        task = asyncio.create_task(work())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def finish() -> None:
        with contextlib.suppress(ValueError):
            await asyncio.wait(tasks)

    stage.at_end.append(finish)


def slow_replica(stage: Stage) -> None:
    """One session with two engines: that one of them works is no idleness of the other."""
    primary, replica = stage.engine(), stage.engine()

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Engine:
            return replica if "pg_sleep" in str(clause) else primary

    @stage.app.get("/")
    def read() -> None:
        with Routing() as session:
            session.scalars(select(Order.number).limit(1)).one()
            session.execute(text("SELECT pg_sleep(0.5)"))


def cursor_of_the_driver(stage: Stage) -> None:
    """What a cursor of the driver's runs passes SQLAlchemy by, too."""
    engine = stage.engine(pool_size=20)

    @stage.app.get("/")
    def run() -> None:
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            with contextlib.closing(session.connection().connection.cursor()) as cursor:
                cursor.execute("SELECT pg_sleep(0.5)")


def table_page_by_page(stage: Stage) -> None:
    """A loop that reads a table in pages is no N+1, nor is one that calls a function for its effect."""
    engine = stage.engine(pool_size=20)
    after = text("SELECT number FROM orders WHERE number > :after ORDER BY number LIMIT :rows")
    literal = text("SELECT number FROM orders WHERE number > :after ORDER BY number LIMIT 500")

    @stage.app.get("/")
    def read() -> None:
        with Session(engine) as session:
            for page in range(12):
                session.execute(after, {"after": page, "rows": 100}).all()
                session.execute(literal, {"after": page}).all()
                session.scalars(select(Order.number).order_by(Order.number).limit(200).offset(page)).all()
                if engine.dialect.name == "postgresql":
                    session.execute(text("SELECT pg_notify('orders', :page)"), {"page": str(page)})
                    session.commit()
