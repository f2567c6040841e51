"""The catalogue of correct patterns: what DESIGN calls "never accused".

Each entry is a function that returns an app, with the one line of dbwatch in it, and how to visit it::

    for name, build in CORRECT.items():
        pattern = build(urls)
        pattern.visit(pattern.app, 200)
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

import dbwatch
from tests.apps.visits import Visit, over_uvicorn


@dataclass(frozen=True)
class Urls:
    """One database by a sync and by an async driver. It has a table ``notes (id serial, body text)``."""

    sync: str
    asynchronous: str

    @property
    def is_postgres(self) -> bool:
        """False for SQLite."""
        return self.sync.startswith("postgresql")

    @property
    def slow(self) -> str:
        """A statement that runs for so long that it is cancelled; SQLite cannot be stopped and goes on to its end."""
        if self.is_postgres:
            return "SELECT pg_sleep(20)"
        return "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n"


@dataclass(frozen=True)
class Pattern:
    """A correct app, and how to visit it."""

    app: Any
    visit: Visit = field(default_factory=over_uvicorn)


CORRECT: dict[str, Callable[[Urls], Pattern]] = {}


def correct(build: Callable[[Urls], Pattern]) -> Callable[[Urls], Pattern]:
    """Enter a pattern into the catalogue, under the name of its function."""
    CORRECT[build.__name__] = build
    return build


def new_app(*engines: Engine | AsyncEngine, watched: bool = True) -> FastAPI:
    """A FastAPI app that disposes of its engines when it ends; watched by dbwatch unless told otherwise."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await dispose(*engines)

    app = FastAPI(lifespan=lifespan)
    if watched:
        app.add_middleware(dbwatch.DBWatchMiddleware)
    return app


async def dispose(*engines: Engine | AsyncEngine) -> None:
    """Dispose of engines of either kind, on the loop that used them."""
    for engine in engines:
        if isinstance(engine, Engine):
            engine.dispose()
        else:
            await engine.dispose()
