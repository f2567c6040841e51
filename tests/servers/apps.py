"""Small apps for the tests of the servers themselves."""

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route


async def _where(request: Request) -> JSONResponse:
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return JSONResponse({"pid": os.getpid(), "loop": loop, "greeting": os.environ.get("GREETING")})


async def _metrics(request: Request) -> PlainTextResponse:
    return PlainTextResponse("# TYPE apples gauge\napples 3\n")


hello = Starlette(routes=[Route("/", _where), Route("/metrics", _metrics)])
