"""Strawberry: the books of each author through a DataLoader, and the way it is written before one knows of those."""

from typing import Any

import strawberry
from fastapi import FastAPI
from httpx import Client, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from strawberry.dataloader import DataLoader
from strawberry.fastapi import GraphQLRouter

from tests.realworld.libraries.shop import Author, Book

LIBRARY = "strawberry-graphql"
#: One SELECT for each author, in the resolver without a loader.
TRUE = {"repeated_statement": "always"}

_maker: async_sessionmaker[AsyncSession]


@strawberry.type
class AuthorType:
    id: int
    name: str

    @strawberry.field
    async def books(self, info: strawberry.Info) -> list[str]:
        titles: list[str] = await info.context["titles"].load(self.id)
        return titles

    @strawberry.field
    async def books_one_by_one(self) -> list[str]:
        async with _maker() as session:
            return [*await session.scalars(select(Book.title).where(Book.author_id == self.id))]


@strawberry.type
class Query:
    @strawberry.field
    async def authors(self) -> list[AuthorType]:
        async with _maker() as session:
            found = await session.scalars(select(Author).order_by(Author.id).limit(10))
            return [AuthorType(id=author.id, name=author.name) for author in found]


async def _titles(keys: list[int]) -> list[list[str]]:
    async with _maker() as session:
        found = (await session.execute(select(Book.author_id, Book.title).where(Book.author_id.in_(keys)))).all()
    return [[title for author, title in found if author == key] for key in keys]


async def _context() -> dict[str, Any]:
    return {"titles": DataLoader(load_fn=_titles)}


def build(sync_url: str, async_url: str) -> FastAPI:
    global _maker
    _maker = async_sessionmaker(create_async_engine(async_url), expire_on_commit=False)
    app = FastAPI()
    app.include_router(GraphQLRouter(strawberry.Schema(Query), context_getter=_context), prefix="/graphql")
    return app


def visit(client: Client, who: int) -> list[Response]:
    return [
        client.post("/graphql", json={"query": "{authors{name books}}"}),
        client.post("/graphql", json={"query": "{authors{name booksOneByOne}}"}),
    ]
