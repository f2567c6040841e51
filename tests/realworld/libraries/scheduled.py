"""APScheduler: jobs beside the requests, each with a session of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI
from httpx import Client, Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from tests.realworld.libraries.shop import Author

LIBRARY = "apscheduler"
TRUE: dict[str, str] = {}


def build(sync_url: str, async_url: str) -> FastAPI:
    engine = create_async_engine(async_url)
    maker = async_sessionmaker(engine)

    async def job() -> None:
        async with maker() as session:
            session.add(Author(name="by a job"))
            await session.commit()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        scheduler = AsyncIOScheduler()
        scheduler.add_job(job, "interval", seconds=0.05)
        scheduler.start()
        yield
        scheduler.shutdown()
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    spawned = set()

    @app.post("/now")
    async def now() -> str:
        task = asyncio.create_task(job())
        spawned.add(task)
        task.add_done_callback(spawned.discard)
        return "begun"

    @app.get("/authors")
    async def count() -> Any:
        async with maker() as session:
            return await session.scalar(select(func.count(Author.id)))

    return app


def visit(client: Client, who: int) -> list[Response]:
    return [client.post("/now"), client.get("/authors")]
