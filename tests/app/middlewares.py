"""Middlewares that apps are known to have, reduced to what matters here."""

from collections.abc import Awaitable, Callable

from tests.app.calls import App, Receive, Scope, Send

Query = Callable[[], Awaitable[None]]


class TakesConnection:
    """A middleware that takes a connection for each request that the app answers."""

    def __init__(self, app: App, query: Query) -> None:
        self.app = app
        self.query = query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"] != "/metrics":
            await self.query()
        await self.app(scope, receive, send)


class CopiesScope:
    """A middleware that hands on a copy of the scope."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(dict(scope), receive, send)


class PassesOn:
    """A middleware that does nothing."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)
