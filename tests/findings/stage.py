"""What an app of these tests is built on: a watched FastAPI app, and engines that are disposed of on its own loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any

from fastapi import FastAPI
from sqlalchemy import AsyncAdaptedQueuePool, Engine, QueuePool, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

import dbwatch
from tests.servers.databases import ASYNC

#: Builds an app on a stage: adds routes to ``stage.app``.
Build = Callable[["Stage"], None]


class Stage:
    """An empty app with the one line, on one database and driver.

    ``options`` are those of the middleware. Engines made with ``engine`` and ``async_engine`` are on queue pools
    unless told otherwise.
    """

    def __init__(self, name: str, url: str, **options: Any) -> None:
        self.name = name
        self.url = url
        self.is_async = name in ASYNC
        self.app = FastAPI(lifespan=self._lifespan)
        self.app.add_middleware(dbwatch.DBWatchMiddleware, **options)
        #: Called on the app's loop before the engines are disposed of.
        self.at_end: list[Callable[[], Any]] = []
        #: Connections of the pool, for builders that take it from here.
        self.size = 5
        #: Requests that have begun and not ended.
        self.running = 0
        self.engines: list[Engine | AsyncEngine] = []
        #: The context of no request, as a task of the lifespan has it.
        self.outside = copy_context()

    def engine(self, **options: Any) -> Engine:
        """A new sync engine."""
        engine = create_engine(self.url, **{"poolclass": QueuePool, **options})
        self.engines.append(engine)
        return engine

    def async_engine(self, **options: Any) -> AsyncEngine:
        """A new async engine."""
        engine = create_async_engine(self.url, **{"poolclass": AsyncAdaptedQueuePool, **options})
        self.engines.append(engine)
        return engine

    def add_inner(self, kind: Any, **options: Any) -> None:
        """Add a middleware inside dbwatch's, as one is that was added before it."""
        self.app.user_middleware.append(Middleware(kind, **options))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app, with its running requests counted: a client has its answer before a request has ended."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        self.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.running -= 1

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        yield
        for call in self.at_end:
            result = call()
            if hasattr(result, "__await__"):
                await result
        for engine in self.engines:
            if isinstance(engine, AsyncEngine):
                await engine.dispose()
            else:
                engine.dispose()
