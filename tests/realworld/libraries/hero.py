"""SQLModel: one class for the table and the answer."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI
from httpx import Client, Response
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tests.realworld.libraries.shop import make_tables, sessions_of

LIBRARY = "sqlmodel"
TRUE: dict[str, str] = {}


class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str


def build(sync_url: str, async_url: str) -> FastAPI:
    make_tables(sync_url, SQLModel.metadata)
    maker: Any = async_sessionmaker(create_async_engine(async_url), class_=AsyncSession)
    Session = Annotated[AsyncSession, Depends(sessions_of(maker))]  # noqa: N806
    app = FastAPI()

    @app.post("/heroes")
    async def create(hero: Hero, session: Session) -> Hero:
        session.add(hero)
        await session.commit()
        await session.refresh(hero)
        return hero

    @app.get("/heroes")
    async def heroes(session: Session) -> bool:
        return bool((await session.exec(select(Hero))).all())

    return app


def visit(client: Client, who: int) -> list[Response]:
    return [client.post("/heroes", json={"name": f"New {who}"}), client.get("/heroes")]
