"""Days of running, accelerated: ``python -m tests.reliability.soak ROUNDS`` writes a table, and fails if anything grew.

Each round makes engines in a request and disposes of them, sends requests to ever new paths, leaks connections and lets
the garbage collector find them, cancels requests, makes pools time out, and is scraped and looked at.
"""

import asyncio
import gc
import itertools
import logging
import random
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import psutil
from prometheus_client import generate_latest
from sqlalchemy import Engine, create_engine, exc, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

import dbwatch
from dbwatch.pools import POOLS
from dbwatch.records import Checkout, Request
from tests.reliability import report

ENGINES, PATHS, PAGES = 100, 10_000, 500
#: Mebibytes that the process may grow by from the second round to the last, the allocator's habits included.
GROWTH = 16.0
_STATEMENT = text("SELECT 1")


@dataclass(frozen=True)
class Kept:
    """What there is when nothing runs."""

    mebibytes: float
    handles: int
    threads: int
    series: int
    records: int
    pools: int
    engines_alive: int

    @classmethod
    def now(cls, engines: "WeakSet[Engine]") -> "Kept":
        """Count, after everything that can go has gone."""
        for _ in range(3):
            gc.collect()
        dbwatch.flush()
        process = psutil.Process()
        counts = Counter(type(thing) for thing in gc.get_objects())
        page = generate_latest().decode()
        return cls(
            mebibytes=round(process.memory_info().rss / 2**20, 1),
            handles=process.num_fds(),
            threads=threading.active_count(),
            series=sum(not line.startswith("#") for line in page.splitlines()),
            records=counts[Checkout] + counts[Request],
            pools=len(POOLS.watched()),
            engines_alive=len(engines),
        )


class Soak:
    """The app and its engines."""

    def __init__(self, directory: str) -> None:
        self.url = f"sqlite:///{directory}/soak.db"
        self.made: WeakSet[Engine] = WeakSet()
        options: dict[str, Any] = {"pool_size": 2, "max_overflow": 1, "pool_timeout": 0.0}
        self.engine = create_engine(self.url, poolclass=QueuePool, **options)
        self.asynchronous = create_async_engine(self.url.replace("sqlite", "sqlite+aiosqlite"))
        self._pages: dict[str, Callable[[], Any]] = {
            "/read": self._read,
            "/leak": self._leak,
            "/timeout": self._timeout,
            "/engine": self._engine,
        }
        self._watched = dbwatch.DBWatchMiddleware(self._app)
        self._numbers = itertools.count()

    async def _app(self, scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            async with self.asynchronous.connect() as connection:
                await connection.execute(_STATEMENT)
                await asyncio.sleep(0.005)
        elif page := self._pages.get(scope["path"]):
            await asyncio.to_thread(page)
        else:
            with self.engine.connect():
                pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _read(self) -> None:
        with self.engine.connect() as connection:
            connection.execute(_STATEMENT)

    def _leak(self) -> None:
        cycle: list[Any] = [self.engine.connect()]
        cycle.append(cycle)
        del cycle
        gc.collect()

    def _timeout(self) -> None:
        held = []
        with suppress(exc.TimeoutError):
            while True:
                held.append(self.engine.connect())
        for connection in held:
            connection.close()

    def _engine(self) -> None:
        engine = create_engine(self.url)
        self.made.add(engine)
        with engine.connect() as connection:
            connection.execute(_STATEMENT)
        engine.dispose()

    async def visit(self, path: str) -> None:
        """One request."""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_message: Any) -> None:
            return None

        await self._watched({"type": "http", "method": "GET", "path": path, "headers": []}, receive, send)

    async def round(self, chance: random.Random, share: float) -> None:
        """One round of everything, or of a share of it."""
        for _ in range(int(ENGINES * share)):
            await self.visit("/engine")
        for _ in range(int(PATHS * share)):
            await self.visit(f"/unknown/{next(self._numbers)}")
        for _ in range(int(PAGES * share)):
            await self.visit(chance.choice(("/read", "/leak", "/timeout")))
            waiting = asyncio.create_task(self.visit("/wait"))
            await asyncio.sleep(chance.random() * 0.006)
            waiting.cancel()
            await asyncio.wait([waiting])
        await self.asynchronous.dispose()
        dbwatch.findings()


def run(rounds: int, share: float = 1.0) -> list[Kept]:
    """What there is after each round, or each share of one."""
    kept = []
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(directory)

        async def all_rounds() -> None:
            for number in range(rounds):
                await soak.round(random.Random(number), share)
                kept.append(await asyncio.to_thread(Kept.now, soak.made))
                sys.stdout.write(f"round {number + 1} of {rounds}: {kept[-1]}\n")
                sys.stdout.flush()

        asyncio.run(all_rounds())
        soak.engine.dispose()
    return kept


def grown(early: Kept, late: Kept) -> list[str]:
    """What there is more of than there may be."""
    bounds = {"mebibytes": GROWTH, "handles": 2, "threads": 2, "series": 0, "records": 50, "pools": 0}
    found = [
        f"{name}: {getattr(early, name)} early, {getattr(late, name)} at the end"
        for name, bound in bounds.items()
        if getattr(late, name) - getattr(early, name) > bound
    ]
    if late.engines_alive:
        found.append(f"{late.engines_alive} disposed engines are still alive")
    return found


def main() -> None:
    """Run the rounds and write the table. Exits with what has grown."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    rounds = int(sys.argv[1])
    kept = run(rounds)
    names = ("mebibytes", "handles", "threads", "series", "records", "pools", "engines_alive")
    shown = sorted({1, rounds // 4, rounds // 2, rounds} - {0})
    rows = []
    for number in shown:
        after = kept[number - 1]
        rows.append((number, number * ENGINES, number * PATHS, *(getattr(after, name) for name in names)))
    heading = ("round", "engines made", "unknown paths", "MiB", "file handles", "threads", "series", "records", "pools")
    report.write("soak", report.table((*heading, "disposed engines alive"), rows))
    if found := grown(kept[min(1, rounds - 1)], kept[-1]):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
