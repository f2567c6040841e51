"""One process that serves requests by the hundred thousand, and what it keeps of them.

``python -m benchmarks.kept VARIANT URL ROUTES REQUESTS`` asks each route once and then goes on in turn; it prints bytes
of Python's for each route, and the process's memory on the way, as a line of JSON.
"""

import asyncio
import gc
import json
import sys
import tracemalloc
from functools import partial
from itertools import cycle
from typing import Any

import psutil
from fastapi import FastAPI
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.driving import batch
from benchmarks.inline_sqlite import creator
from benchmarks.variants import load

_LOOKS = 10


async def _endpoint(engine: AsyncEngine) -> dict[str, Any]:
    async with engine.connect() as connection:
        return {"value": (await connection.execute(text("SELECT 1"))).scalar()}


async def main(variant: str, url: str, routes: int, requests: int) -> None:
    """First the routes, with Python's allocations traced; then all requests, with nothing traced."""
    engine = create_async_engine(url, async_creator=creator(str(make_url(url).database)))
    app = FastAPI()
    for path in ("/first", *(f"/route-{number}" for number in range(routes))):
        app.add_api_route(path, partial(_endpoint, engine))
    load(variant).instrument(app, engine.sync_engine)
    await batch(app, cycle(["/first"]), 100)
    paths = cycle([f"/route-{number}" for number in range(routes)])
    tracemalloc.start()
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    await batch(app, paths, routes)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    mebibytes = []
    for _ in range(_LOOKS):
        await batch(app, paths, requests // _LOOKS)
        gc.collect()
        mebibytes.append(psutil.Process().memory_info().rss / 2**20)
    print(json.dumps({"route_bytes": (after - before) / routes, "mebibytes": mebibytes}))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
