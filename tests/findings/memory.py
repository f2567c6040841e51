"""Thousands of requests, every tenth of them faulty, and what dbwatch keeps of them.

``python -m tests.findings.memory 200000`` runs it at length: it prints what is kept at a fifth of the way and at the
end, and fails if that has grown.
"""

import asyncio
import gc
import logging
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psutil
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, text

import dbwatch
from dbwatch import Finding, leaks
from dbwatch.findings import KEPT
from dbwatch.hooks import engines
from dbwatch.ledger import LEDGER
from dbwatch.outputs.logs import FINDING_LOG
from dbwatch.pools import POOLS
from dbwatch.records import Checkout, Evidence, Request

AT_ONCE = 16
#: The ring, the leaks whose connection is out, and those whose connection came back hold so many at most.
MOST_FINDINGS = 3 * KEPT
FAULTY = ("/leak", "/lose", "/nest", "/repeat", "/engine")
#: Mebibytes that the process may grow by between the fifth and the end, the allocator's habits included.
GROWTH = 24.0


@dataclass(frozen=True)
class Kept:
    """What is in memory when no request runs."""

    records: int
    findings: int
    mebibytes: float

    def __str__(self) -> str:
        return f"{self.records} records, {self.findings} findings, {self.mebibytes:.1f} MiB"


def faulty_app(url: str) -> tuple[FastAPI, Engine]:
    """An app that is correct at ``/`` and has a mistake at each of the other paths."""
    app = FastAPI()
    app.add_middleware(dbwatch.DBWatchMiddleware)
    engine = create_engine(url, pool_size=40, max_overflow=40)

    @app.get("/")
    def read() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    @app.get("/leak")
    def leak() -> None:
        engine.connect().execute(text("SELECT 1"))

    @app.get("/lose")
    def lose() -> None:
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO words VALUES ('lost')"))

    @app.get("/nest")
    def nest() -> None:
        with engine.connect() as one, engine.connect() as other:
            one.execute(text("SELECT 1"))
            other.execute(text("SELECT 1"))

    @app.get("/repeat")
    def repeat() -> None:
        with engine.connect() as connection:
            for _ in range(12):
                connection.execute(text("SELECT 1"))

    @app.get("/engine")
    def make() -> None:
        mine = create_engine(url)
        with mine.connect() as connection:
            connection.execute(text("SELECT 1"))
        mine.dispose()

    return app, engine


async def visit(app: Any, path: str) -> None:
    """One GET, without a network."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        pass

    await app(scope, receive, send)


async def visits(app: Any, first: int, last: int) -> None:
    """Requests number ``first`` to ``last``, every tenth of them faulty."""
    for start in range(first, last, AT_ONCE):
        paths = [
            FAULTY[number // 10 % len(FAULTY)] if number % 10 == 0 else "/"
            for number in range(start, min(start + AT_ONCE, last))
        ]
        await asyncio.gather(*[visit(app, path) for path in paths])


def kept() -> Kept:
    """Look, after everything that can go has gone."""
    assert dbwatch.settle(20.0)
    for _ in range(3):
        gc.collect()
    findings = dbwatch.findings()
    assert len(findings) <= KEPT
    assert not leaks._deferred
    assert len(LEDGER.facts) == 0
    assert len(FINDING_LOG._said) < 50
    assert len(engines._creations) < 50
    assert sum(len(pool.open) + len(pool.waiting) for pool in POOLS.watched()) == 0
    counts = Counter(type(thing) for thing in gc.get_objects())
    return Kept(
        records=counts[Checkout] + counts[Request] + counts[Evidence],
        findings=counts[Finding],
        mebibytes=psutil.Process().memory_info().rss / 2**20,
    )


def run(requests: int) -> tuple[Kept, Kept]:
    """What is kept after a fifth of the requests, and after all of them."""
    with tempfile.TemporaryDirectory() as directory:
        app, engine = faulty_app(f"sqlite:///{directory}/test.db")
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE words (word VARCHAR(20))"))

        async def both() -> tuple[Kept, Kept]:
            await visits(app, 0, requests // 5)
            early = await asyncio.to_thread(kept)
            await visits(app, requests // 5, requests)
            return early, await asyncio.to_thread(kept)

        early, late = asyncio.run(both())
        engine.dispose()
    return early, late


def main() -> None:
    """Run it at the length given on the command line."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    requests = int(sys.argv[1])
    early, late = run(requests)
    grown = late.mebibytes - early.mebibytes
    sys.stdout.write(f"after {requests // 5} requests: {early}\nafter {requests} requests: {late}\n")
    found = Counter({labels[0]: cell.value for labels, cell in _found().items()})
    sys.stdout.write(f"found: {dict(found)}\n")
    if late.records > early.records + 50 or late.findings > MOST_FINDINGS or grown > GROWTH:
        raise SystemExit(f"memory has grown: {grown:.1f} MiB")


def _found() -> dict[tuple[str, ...], Any]:
    return LEDGER.accumulators.counters["dbwatch_findings_total"]


if __name__ == "__main__":
    main()
