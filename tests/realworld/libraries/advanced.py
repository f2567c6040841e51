"""Advanced Alchemy: repository and service, with a commit made by the library according to the status."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from advanced_alchemy.extensions.fastapi import (
    AdvancedAlchemy,
    AsyncSessionConfig,
    SQLAlchemyAsyncConfig,
    repository,
    service,
)
from fastapi import Depends, FastAPI, HTTPException
from httpx import Client, Response
from sqlalchemy.ext.asyncio import AsyncSession

from tests.realworld.libraries.shop import Author, NewAuthor

LIBRARY = "advanced-alchemy"
TRUE: dict[str, str] = {}


class Repository(repository.SQLAlchemyAsyncRepository[Author]):
    model_type = Author


class Service(service.SQLAlchemyAsyncRepositoryService[Author]):
    repository_type = Repository


def build(sync_url: str, async_url: str) -> FastAPI:
    config = SQLAlchemyAsyncConfig(
        connection_string=async_url,
        session_config=AsyncSessionConfig(expire_on_commit=False),
        commit_mode="autocommit",
    )
    app = FastAPI()
    alchemy = AdvancedAlchemy(config=config, app=app)
    Session = Annotated[AsyncSession, Depends(alchemy.provide_session())]  # noqa: N806

    async def get_service(session: Session) -> AsyncIterator[Any]:
        async with Service.new(session=session) as made:
            yield made

    Authors = Annotated[Any, Depends(get_service)]  # noqa: N806

    @app.get("/authors")
    async def listed(authors: Authors) -> bool:
        found, count = await authors.list_and_count()
        return bool(len(found) == count)

    @app.post("/authors", status_code=201)
    async def create(new: NewAuthor, authors: Authors) -> str:
        await authors.create({"name": new.name})
        return "created"

    @app.post("/refused")
    async def refused(authors: Authors) -> None:
        await authors.create({"name": "Nobody"})
        raise HTTPException(400)

    @app.get("/authors/{number}")
    async def one(number: int, session: Session) -> str:
        author = await session.get(Author, number)
        if author is None:
            raise HTTPException(404)
        return author.name

    return app


def visit(client: Client, who: int) -> list[Response]:
    return [
        client.get("/authors"),
        client.post("/authors", json={"name": f"New {who}"}),
        client.post("/refused"),
        client.get("/authors/1"),
        client.get("/authors/99999"),
    ]
