"""FastCRUD: endpoints made from a model, and joins."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastcrud import FastCRUD, crud_router
from httpx import Client, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from tests.realworld.libraries.shop import Author, Book, NewAuthor, sessions_of

LIBRARY = "fastcrud"
TRUE: dict[str, str] = {}


def build(sync_url: str, async_url: str) -> FastAPI:
    get_session = sessions_of(async_sessionmaker(create_async_engine(async_url), expire_on_commit=False))
    Session = Annotated[AsyncSession, Depends(get_session)]  # noqa: N806
    app = FastAPI()
    app.include_router(
        crud_router(
            session=get_session, model=Author, create_schema=NewAuthor, update_schema=NewAuthor, path="/authors"
        )
    )
    books: Any = FastCRUD(Book)

    @app.get("/books")
    async def joined(session: Session) -> int:
        found = await books.get_multi_joined(session, join_model=Author, join_prefix="author_", limit=10)
        return len(found["data"])

    @app.post("/books/{number}")
    async def rename(number: int, session: Session) -> str:
        if not await books.exists(session, id=number):
            raise HTTPException(404)
        await books.update(session, {"title": "Renamed"}, id=number)
        return "renamed"

    return app


def visit(client: Client, who: int) -> list[Response]:
    return [
        client.post("/authors", json={"name": f"New {who}"}),
        client.get("/authors"),
        client.get("/authors?page=2&itemsPerPage=5"),
        client.get("/authors/1"),
        client.patch(f"/authors/{who + 1}", json={"name": "Changed"}),
        client.get("/authors/99999"),
        client.get("/books"),
        client.post(f"/books/{who + 1}"),
        client.post("/books/99999"),
    ]
