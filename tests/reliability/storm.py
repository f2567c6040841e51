"""An app under a storm: clients that leave at any moment, cancelled tasks, pools that are disposed of, all at once."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from dbwatch import DBWatchMiddleware

_STATEMENT = text("SELECT 1")


async def _pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def stormy_app(engine: AsyncEngine, *, with_middleware: bool) -> Starlette:
    """Pages that hold a connection for a while, and one that disposes of the pool."""

    async def read(_request: Request) -> Response:
        async with engine.connect() as connection:
            await connection.execute(_STATEMENT)
            await asyncio.sleep(0.002)
            await connection.execute(_STATEMENT)
        return PlainTextResponse("read")

    async def stream(_request: Request) -> Response:
        async def rows() -> AsyncIterator[str]:
            async with engine.connect() as connection:
                for _ in range(10):
                    await connection.execute(_STATEMENT)
                    yield "row\n"
                    await asyncio.sleep(0.001)

        return StreamingResponse(rows())

    async def cancelled(_request: Request) -> Response:
        task = asyncio.create_task(read(_request))
        await asyncio.sleep(random.random() * 0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return PlainTextResponse("cancelled")

    async def dispose(_request: Request) -> Response:
        await engine.dispose()
        return PlainTextResponse("disposed")

    app = Starlette(routes=[Route(f"/{page.__name__}", page) for page in (read, stream, cancelled, dispose)])
    if with_middleware:
        app.add_middleware(BaseHTTPMiddleware, dispatch=_pass_on)
    app.add_middleware(DBWatchMiddleware, registry=CollectorRegistry())
    return app


async def impatient_client(port: int, path: str, patience: float) -> bool:
    """Send a request and leave after so many seconds. True if the whole answer had come by then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: storm\r\nConnection: close\r\n\r\n".encode())
    try:
        async with asyncio.timeout(patience):
            await reader.read(-1)
    except TimeoutError:
        return False
    finally:
        writer.transport.abort()
    return True
