"""Dishka: engine and session from a container, the session with the scope of a request."""

from collections.abc import AsyncIterable
from typing import Any

from dishka import Provider, Scope, make_async_container, provide
from dishka.integrations.fastapi import FromDishka, inject, setup_dishka
from fastapi import FastAPI
from httpx import Client, Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from tests.realworld.libraries.shop import Author, NewAuthor

LIBRARY = "dishka"
TRUE: dict[str, str] = {}


def build(sync_url: str, async_url: str) -> FastAPI:
    class Database(Provider):
        @provide(scope=Scope.APP)
        async def engine(self) -> AsyncIterable[AsyncEngine]:
            engine = create_async_engine(async_url)
            yield engine
            await engine.dispose()

        @provide(scope=Scope.REQUEST)
        async def session(self, engine: AsyncEngine) -> AsyncIterable[AsyncSession]:
            async with AsyncSession(engine) as session:
                yield session

    app = FastAPI()

    @app.get("/authors")
    @inject
    async def count(session: FromDishka[AsyncSession]) -> Any:
        return await session.scalar(select(func.count(Author.id)))

    @app.post("/authors")
    @inject
    async def create(new: NewAuthor, session: FromDishka[AsyncSession]) -> str:
        session.add(Author(name=new.name))
        await session.commit()
        return "created"

    @app.get("/broken")
    @inject
    async def broken(session: FromDishka[AsyncSession]) -> None:
        await session.execute(select(Author))
        raise RuntimeError("the app's own mistake")

    setup_dishka(make_async_container(Database()), app)
    return app


def visit(client: Client, who: int) -> list[Response]:
    return [client.get("/authors"), client.post("/authors", json={"name": f"New {who}"}), client.get("/broken")]
