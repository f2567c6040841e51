"""One process with many routes whose metrics page is read: how long that takes, and how long the event loop stands.

``python -m benchmarks.scraped DIRECTORY ROUTES POOLS SCRAPES`` prints one line of JSON.
"""

import asyncio
import gzip
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median

from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, text

from benchmarks.driving import request
from dbwatch import DBWatchMiddleware

#: How often the watch over the loop looks, in seconds.
_TICK = 0.001


@dataclass(frozen=True, slots=True)
class Scrape:
    """Medians over the scrapes, in seconds: from asking to having the page, CPU time, and the longest time in which
    the loop ran nothing else, beside the longest in an idle stretch of the same length.
    """

    routes: int
    pools: int
    series: int
    seconds: float
    cpu: float
    stall: float
    idle_stall: float


def build(directory: str, routes: int, pools: int) -> tuple[FastAPI, list[Engine]]:
    """An app with that many routes, each of which uses one of the pools."""
    app = FastAPI()
    app.add_middleware(DBWatchMiddleware)
    engines = [create_engine(f"sqlite:///{directory}/scrape-{number}.db") for number in range(pools)]
    for number in range(routes):
        app.add_api_route(f"/route-{number}", _endpoint(engines[number % pools]))
    return app, engines


def _endpoint(engine: Engine) -> Callable[[], dict[str, int]]:
    def use() -> dict[str, int]:
        with engine.connect() as connection:
            return {"value": connection.scalar(text("SELECT 1")) or 0}

    return use


async def main(directory: str, routes: int, pools: int, scrapes: int) -> None:
    """Use every route, then scrape."""
    app, engines = build(directory, routes, pools)
    for number in range(routes):
        await request(app, f"/route-{number}")
    page = await request(app, "/metrics")
    seconds, cpu, stalls, idle = [], [], [], []
    for _ in range(scrapes):
        wall, processor = time.perf_counter(), time.process_time()
        await request(app, "/metrics")
        seconds.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - processor)
        idle.append(await longest_stall(asyncio.sleep(seconds[-1])))
        stalls.append(await longest_stall(request(app, "/metrics")))
    lines = gzip.decompress(page).splitlines()  # asked for compressed, as Prometheus does
    series = sum(bool(line) and not line.startswith(b"#") for line in lines)
    figures = Scrape(routes, pools, series, median(seconds), median(cpu), median(stalls), median(idle))
    print(json.dumps(asdict(figures)))
    for engine in engines:
        engine.dispose()


async def longest_stall(work: Awaitable[object]) -> float:
    """The longest time by which a tick came late while ``work`` went on."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_TICK)
            longest = max(longest, time.perf_counter() - before - _TICK)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await work
    await asyncio.sleep(_TICK * 2)  # a stall at the very end is seen by the next tick
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher
    return longest


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:5])))
