"""fastapi-async-sqlalchemy: a session in a context variable, given to each request by a middleware."""

import asyncio
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi_async_sqlalchemy import SQLAlchemyMiddleware, db
from httpx import Client, Response
from sqlalchemy import func, select

from tests.realworld.libraries.shop import Author, NewAuthor

LIBRARY = "fastapi-async-sqlalchemy"
#: With ``multi_sessions`` each task has a session, and all are closed at the end of the block: the first holds its
#: connection while the last asks for one.
TRUE = {"nested_checkout": "may"}


def build(sync_url: str, async_url: str) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SQLAlchemyMiddleware, db_url=async_url)

    @app.get("/authors")
    async def count() -> Any:
        return await db.session.scalar(select(func.count(Author.id)))

    @app.post("/authors")
    async def create(new: NewAuthor) -> str:
        db.session.add(Author(name=new.name))
        await db.session.commit()
        return "created"

    @app.get("/refused")
    async def refused() -> None:
        await db.session.execute(select(Author))
        raise HTTPException(400)

    @app.get("/untouched")
    async def untouched() -> str:
        return "no session"

    @app.get("/tasks")
    async def tasks() -> int:
        async def one(number: int) -> Any:
            return await db.session.scalar(select(Author.name).where(Author.id == number))

        async with db(multi_sessions=True, commit_on_exit=True):
            return len(await asyncio.gather(*(asyncio.create_task(one(number)) for number in range(1, 4))))

    return app


def visit(client: Client, who: int) -> list[Response]:
    return [
        client.get("/authors"),
        client.post("/authors", json={"name": f"New {who}"}),
        client.get("/refused"),
        client.get("/untouched"),
        client.get("/tasks"),
    ]
