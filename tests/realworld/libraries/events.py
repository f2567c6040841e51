"""SSE-Starlette: a stream that asks the database anew for each event."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from httpx import Client, Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sse_starlette.sse import EventSourceResponse

from tests.realworld.libraries.shop import Author

LIBRARY = "sse-starlette"
TRUE: dict[str, str] = {}


def build(sync_url: str, async_url: str) -> FastAPI:
    maker = async_sessionmaker(create_async_engine(async_url))
    app = FastAPI()

    @app.get("/events")
    async def events() -> EventSourceResponse:
        async def counts() -> AsyncIterator[dict[str, str]]:
            for _ in range(3):
                async with maker() as session:
                    count = await session.scalar(select(func.count(Author.id)))
                yield {"data": str(count)}
                await asyncio.sleep(0.05)

        return EventSourceResponse(counts())

    return app


def visit(client: Client, who: int) -> list[Response]:
    answers = [client.get("/events") for _ in range(2)]
    with client.stream("GET", "/events") as left:
        next(left.iter_bytes())
    return answers
