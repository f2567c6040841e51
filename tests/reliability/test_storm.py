"""Whatever happens to requests, afterwards the books are in order and every connection can be had."""

import asyncio
import gc
import random
from collections.abc import Iterator

import pytest
import uvicorn
from sqlalchemy.pool import AsyncAdaptedQueuePool

import dbwatch
from tests.bookkeeping.books import Books, internal_errors, open_new_books
from tests.core.connections import soon
from tests.reliability.storm import impatient_client, stormy_app
from tests.servers.databases import AsyncDatabase

pytestmark = pytest.mark.filterwarnings(
    # What drivers say of connections that were cut off while they were being opened.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    # Of the streams below.
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
)

_CLIENTS, _EACH, _LIMIT = 12, 15, 4
#: Findings that depend on how busy the machine is.
_MEASURED = {"slow_checkout", "idle_hold"}
_PAGES = ("/read", "/stream", "/cancelled")


@pytest.fixture(autouse=True)
def nothing_is_left_to_the_next_test() -> Iterator[None]:
    """What is collected after the loop has ended is warned of here, and not in whichever test comes next."""
    yield
    gc.collect()


@pytest.mark.parametrize("with_middleware", [False, True], ids=["alone", "with-a-middleware"])
async def test_clients_that_leave_at_random_moments_and_pools_disposed_of_meanwhile_cost_no_slot(
    async_database: AsyncDatabase, with_middleware: bool
) -> None:
    open_new_books()
    engine = async_database.engine(poolclass=AsyncAdaptedQueuePool, pool_size=2, max_overflow=2, pool_timeout=20)
    dbwatch.watch(engine, "storm")
    config = uvicorn.Config(
        stormy_app(engine, with_middleware=with_middleware), port=0, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await soon(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]

    async def client(seed: int) -> list[bool]:
        chance = random.Random(seed)
        answers = []
        for _ in range(_EACH):
            page = "/dispose" if chance.random() < 0.05 else chance.choice(_PAGES)
            patience = 20.0 if chance.random() < 0.3 else chance.random() * 0.02
            answers.append(await impatient_client(port, page, patience))
        return answers

    answers = await asyncio.gather(*map(client, range(_CLIENTS)))
    assert {True, False} == {answer for each in answers for answer in each}

    books = Books("storm")

    def all_are_back() -> bool:
        if with_middleware:
            gc.collect()  # of what is said below
        return not books.snapshot().used

    await soon(all_are_back)
    connections = [await engine.connect() for _ in range(_LIMIT)]
    for connection in connections:
        await connection.close()
    server.should_exit = True
    await serving

    pool = books.snapshot()
    assert (pool.used, pool.waiters, pool.leaked, pool.overflow, pool.holders) == (0, 0, 0, 0, ())
    checkouts = books.observed("dbwatch_checkout_seconds")
    assert checkouts["timeout"] == checkouts["error"] == 0
    assert checkouts["ok"] == books.observed("dbwatch_hold_seconds")[""] >= _CLIENTS
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    accused = {finding.finding for finding in dbwatch.findings()} - _MEASURED
    if with_middleware:
        # BaseHTTPMiddleware leaves the generator of a stream that is cut off in a reference cycle (Starlette 1.10): its
        # connection really is out until the next garbage collection.
        accused -= {"leaked_connection"}
    assert not accused
    assert internal_errors() == {}
