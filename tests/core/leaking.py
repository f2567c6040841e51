"""Apps that lose connections, visited on the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

import dbwatch

#: Takes a connection in an app and loses it there.
Take = Callable[[], Awaitable[Any]]


def watched_app() -> FastAPI:
    """An app with the one line."""
    app = FastAPI()
    app.add_middleware(dbwatch.DBWatchMiddleware)
    return app


@asynccontextmanager
async def visiting(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the app directly; errors of the app become answers with status 500."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60.0) as client:
        yield client


async def settled() -> None:
    """Wait for the last verdict."""
    assert await asyncio.to_thread(dbwatch.settle, 10.0)


class Kept(list[Any]):
    """Connections that the app has kept where nobody gives them back: out of the garbage collector's reach."""

    async def take(self, engine: Engine | AsyncEngine) -> None:
        """Take a connection and keep it; one of a sync engine as an endpoint without ``async`` would."""
        if isinstance(engine, Engine):
            self.append(engine.connect())
        else:
            self.append(await engine.connect())

    async def give_back(self) -> None:
        """Close them all."""
        while self:
            connection = self.pop()
            if isinstance(closing := connection.close(), Awaitable):
                await closing
