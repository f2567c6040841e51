"""SQLAdmin on an asynchronous engine."""

from fastapi import FastAPI
from httpx import Client, Response
from sqladmin import Admin, ModelView
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.realworld.libraries.shop import Author, Book

LIBRARY = "sqladmin"
TRUE: dict[str, str] = {}


def build(sync_url: str, async_url: str) -> FastAPI:
    return admin_of(create_async_engine(async_url))


def admin_of(engine: Engine | AsyncEngine) -> FastAPI:
    """An app with the pages of both tables."""

    class AuthorAdmin(ModelView, model=Author):
        column_list = (Author.id, Author.name, Author.books)
        column_searchable_list = (Author.name,)

    class BookAdmin(ModelView, model=Book):
        column_list = (Book.id, Book.title, Book.author)

    app = FastAPI()
    admin = Admin(app, engine)
    admin.add_view(AuthorAdmin)
    admin.add_view(BookAdmin)
    return app


def visit(client: Client, who: int) -> list[Response]:
    return [
        client.get("/admin/author/list?search=1"),
        client.get("/admin/book/list"),
        client.get("/admin/author/details/1"),
        client.get("/admin/author/edit/2"),
        client.post("/admin/author/create", data={"name": f"New {who}"}),
        client.post("/admin/author/edit/3", data={"name": "No books"}),  # which they may not be without
        client.get("/admin/author/export/csv"),
        client.get("/admin/book/details/99999"),
    ]
