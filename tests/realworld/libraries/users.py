"""FastAPI Users with its adapter for SQLAlchemy: registration, login, the user as a dependency."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTable, SQLAlchemyUserDatabase
from httpx import Client, Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.realworld.libraries.shop import Author, make_tables, sessions_of

LIBRARY = "fastapi-users"
#: It computes the hash of a password while it holds the session, which takes long where the machine is slow.
TRUE = {"idle_hold": "may"}

_SECRET = "not a secret, but long enough for a key"


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTable[int], Base):
    __tablename__ = "user_account"

    id: Mapped[int] = mapped_column(primary_key=True)


class Manager(IntegerIDMixin, BaseUserManager[User, int]):
    reset_password_token_secret = _SECRET
    verification_token_secret = _SECRET


class UserRead(schemas.BaseUser[int]):
    pass


class UserCreate(schemas.BaseUserCreate):
    pass


class UserUpdate(schemas.BaseUserUpdate):
    pass


def build(sync_url: str, async_url: str) -> FastAPI:
    make_tables(sync_url, Base.metadata)
    get_session = sessions_of(async_sessionmaker(create_async_engine(async_url), expire_on_commit=False))
    Session = Annotated[AsyncSession, Depends(get_session)]  # noqa: N806

    async def get_database(session: Session) -> AsyncIterator[Any]:
        yield SQLAlchemyUserDatabase(session, User)

    async def get_manager(database: Annotated[Any, Depends(get_database)]) -> AsyncIterator[Manager]:
        yield Manager(database)

    transport = BearerTransport(tokenUrl="auth/login")
    backend = AuthenticationBackend(
        name="jwt", transport=transport, get_strategy=lambda: JWTStrategy(secret=_SECRET, lifetime_seconds=3600)
    )
    users = FastAPIUsers[User, int](get_manager, [backend])
    app = FastAPI()
    app.include_router(users.get_auth_router(backend), prefix="/auth")
    app.include_router(users.get_register_router(UserRead, UserCreate), prefix="/auth")
    app.include_router(users.get_users_router(UserRead, UserUpdate), prefix="/users")

    @app.get("/authors")
    async def authors(user: Annotated[Any, Depends(users.current_user(active=True))], session: Session) -> int | None:
        return await session.scalar(select(func.count(Author.id)))

    return app


def visit(client: Client, who: int) -> list[Response]:
    account = {"email": f"visitor{who}@example.com", "password": "correct horse"}
    login = {"username": account["email"], "password": account["password"]}
    answers = [client.post("/auth/register", json=account), client.post("/auth/register", json=account)]
    answers.append(client.post("/auth/login", data=login))
    client.headers["Authorization"] = f"Bearer {answers[-1].json()['access_token']}"
    return [
        *answers,
        client.get("/authors"),
        client.get("/users/me"),
        client.patch("/users/me", json={"email": f"moved{who}@example.com"}),
        client.get("/authors", headers={"Authorization": ""}),
        client.post("/auth/login", data={**login, "password": "wrong"}),
    ]
