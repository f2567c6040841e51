"""One process that holds connections, and says how much memory that takes.

``python -m benchmarks.held VARIANT URL REQUESTS``: that many requests run all at once, first without a connection,
then with one each; prints the bytes Python has allocated for one of them, as a line of JSON.
"""

import asyncio
import gc
import json
import sys
import tracemalloc
from typing import Any

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.driving import request
from benchmarks.variants import load


class Waiters:
    """An app whose endpoints wait until told to go on, one of them with a connection in its hand."""

    def __init__(self, url: str, count: int) -> None:
        self._count = count
        self._waiting = 0
        self._all_wait = asyncio.Event()
        self._go_on = asyncio.Event()
        self.engine = create_async_engine(url, pool_size=count, max_overflow=0)
        self.app = FastAPI()
        self.app.add_api_route("/wait", self._wait)
        self.app.add_api_route("/hold", self._hold)

    async def _wait(self) -> dict[str, Any]:
        self._waiting += 1
        if self._waiting == self._count:
            self._all_wait.set()
        await self._go_on.wait()
        return {}

    async def _hold(self) -> dict[str, Any]:
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            return await self._wait()

    async def bytes_each(self, path: str) -> float:
        """Bytes for one request while all of them wait."""
        self._waiting = 0
        self._all_wait.clear()
        self._go_on.clear()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tasks = [asyncio.create_task(request(self.app, path)) for _ in range(self._count)]
        await self._all_wait.wait()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        self._go_on.set()
        await asyncio.gather(*tasks)
        return (after - before) / self._count


async def main(variant: str, url: str, count: int) -> None:
    """Hold once for the connections to be opened and the caches to fill, then measure."""
    waiters = Waiters(url, count)
    load(variant).instrument(waiters.app, waiters.engine.sync_engine)
    tracemalloc.start()
    await waiters.bytes_each("/hold")
    print(json.dumps({"waiting": await waiters.bytes_each("/wait"), "holding": await waiters.bytes_each("/hold")}))
    await waiters.engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
