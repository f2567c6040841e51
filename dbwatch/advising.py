"""What surrounds the pools of this process, and the advice on their configuration when the first of them is used."""

import os
import sys
from collections.abc import Iterator

from dbwatch.guard import guarded
from dbwatch.ledger import LEDGER
from dbwatch.outputs.live import startup
from dbwatch.outputs.live.history import whole
from dbwatch.outputs.live.remarks import THREADS, Configuration
from dbwatch.outputs.live.report import Surroundings
from dbwatch.pools import POOLS
from dbwatch.settings import THRESHOLDS

#: More threads than any server has.
_MANY = 100_000

_threads = THREADS
_serves = False


def serves_requests() -> None:
    """Note that this process answers requests: there is a middleware."""
    global _serves
    _serves = True


@guarded("advising.threads")
def note_threads() -> None:
    """Read how many threads AnyIO lends to plain ``def`` endpoints. Called on the event loop, once the app has started:
    its lifespan may have changed the number.
    """
    global _threads
    anyio = sys.modules.get("anyio.to_thread")
    if anyio is not None:
        _threads = int(min(anyio.current_default_thread_limiter().total_tokens, _MANY))


def surroundings() -> Surroundings:
    """What is around the pools now. Servers and platforms tell the number of workers by ``WEB_CONCURRENCY``."""
    workers = os.environ.get("WEB_CONCURRENCY", "")
    return Surroundings(threads=_threads, processes=max(1, int(workers) if workers.isdigit() else 1))


def advise_at_first_checkout() -> None:
    """Say in the log, once, what is risky about the engines there are when the first connection is taken."""
    # Not before: it may be this connection on which the server is asked what it allows.
    LEDGER.at_first_checkout(lambda: LEDGER.post(_when_folded, None))


def _when_folded(_nothing: None) -> None:
    LEDGER.after_fold(_say, None)


def _say(_nothing: None) -> None:
    startup.say(_configurations(), THRESHOLDS.ignore_advice, serves=_serves)
    LEDGER.try_fold()  # a pool that was seen here for the first time is a fact as well


def _configurations() -> Iterator[tuple[str, Configuration]]:
    around = surroundings()
    for pool in POOLS.snapshot():
        yield (
            pool.name,
            Configuration(
                pool.attributes,
                size=pool.size,
                limit=whole(pool.limit),
                timeout=None if whole(pool.timeout_seconds) is None else pool.timeout_seconds,
                workers=around.processes,
                threads=around.threads,
                server_allows=pool.server_allows,
                server_idle_seconds=pool.server_idle_seconds,
            ),
        )
