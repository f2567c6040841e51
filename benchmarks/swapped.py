"""What a further statement costs: what runs with each one is taken out and put back, in one and the same process.

Two processes of one program differ by the layout of their memory, in what a hundred statements take by more than
dbwatch adds. Swapped in one process, the hooks are told apart from that; and from the least that any tool does which
times a statement.

``python -m benchmarks.swapped URL ROUNDS`` prints, by state, CPU seconds of a statement in each round, as JSON.
"""

import asyncio
import json
import random
import sys
from collections.abc import Callable
from itertools import cycle
from time import perf_counter
from typing import Any

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import base

from benchmarks.driving import batch
from benchmarks.variants import load
from benchmarks.workloads import WORKLOADS, build
from dbwatch.hooks.pool import CHECKOUT_KEY

_TITLES = (
    "SQLAlchemy's own",
    "a wrapper that does nothing, around each of the two methods",
    "the least that times a statement: find its hold, read the clock twice, add up",
    "dbwatch",
)
_REQUESTS = 5

Execute = Callable[..., Any]


def _through(original: Execute) -> Execute:
    def do_execute(self: Any, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> Any:
        return original(self, cursor, statement, parameters, context)

    return do_execute


def _timed(original: Execute) -> Execute:
    def do_execute(self: Any, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> Any:
        checkout = context.root_connection.info.get(CHECKOUT_KEY)
        began = perf_counter()
        try:
            return original(self, cursor, statement, parameters, context)
        finally:
            checkout.executing += perf_counter() - began
            checkout.statements += 1

    return do_execute


def _cursor_through(original: Execute) -> Execute:
    def cursor(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs)

    return cursor


async def main(url: str, rounds: int) -> None:
    """Swap, ask, and swap again."""
    workload = WORKLOADS["inline-100"]
    bench = build(workload, url)
    load("dbwatch_on").instrument(bench.app, bench.engine)
    await batch(bench.app, cycle(workload.paths), _REQUESTS)  # the first request makes the middleware, which hooks
    dialect: Any = DefaultDialect
    proxy: Any = base._ConnectionFairy  # noqa: SLF001  private, and hooked
    watched_execute, watched_cursor = dialect.do_execute, proxy.cursor
    execute, cursor = watched_execute.__wrapped__, watched_cursor.__wrapped__
    states = dict(
        zip(
            _TITLES,
            (
                (execute, cursor),
                (_through(execute), _cursor_through(cursor)),
                (_timed(execute), cursor),
                (watched_execute, watched_cursor),
            ),
            strict=True,
        )
    )
    seconds: dict[str, list[float]] = {title: [] for title in states}
    shuffled, order = random.Random(0), list(states)
    for _ in range(rounds):
        shuffled.shuffle(order)
        for title in order:
            dialect.do_execute, proxy.cursor = states[title]
            taken = await batch(bench.app, cycle(workload.paths), _REQUESTS)
            seconds[title].append(taken / _REQUESTS / workload.statements)
    print(json.dumps(seconds))
    await bench.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
