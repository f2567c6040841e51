"""FastAPI Pagination: a count and a page, on a synchronous and an asynchronous session."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi_pagination import Page, add_pagination
from fastapi_pagination.ext.sqlalchemy import apaginate, paginate
from httpx import Client, Response
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from tests.realworld.libraries.shop import Author, KnownAuthor, sessions_of

LIBRARY = "fastapi-pagination"
TRUE: dict[str, str] = {}


def build(sync_url: str, async_url: str) -> FastAPI:
    get_async = sessions_of(async_sessionmaker(create_async_engine(async_url)))
    maker = sessionmaker(create_engine(sync_url))

    def get_sync() -> Iterator[Session]:
        with maker() as session:
            yield session

    app = FastAPI()

    @app.get("/async", response_model=Page[KnownAuthor])
    async def asynchronous(session: Annotated[AsyncSession, Depends(get_async)]) -> Any:
        return await apaginate(session, select(Author).order_by(Author.id))

    @app.get("/sync", response_model=Page[KnownAuthor])
    def synchronous(session: Annotated[Session, Depends(get_sync)]) -> Any:
        return paginate(session, select(Author).order_by(Author.id))

    add_pagination(app)
    return app


def visit(client: Client, who: int) -> list[Response]:
    return [client.get(f"/{kind}?page={page}&size=5") for page in range(1, 6) for kind in ("async", "sync")]
