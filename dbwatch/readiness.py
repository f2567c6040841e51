"""Is this process fit to serve? A busy pool is; one that is all out while somebody waits and nothing moves is not."""

import math
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Final

from dbwatch.pools import POOLS, current_pool, pool_limit
from dbwatch.records import WatchedPool

#: Stands in for the timeout of a pool whose checkouts wait for ever: SQLAlchemy's own default.
DEFAULT_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class PoolReadiness:
    """Whether one pool still hands out connections.

    Attributes:
        pool: name of the pool.
        ready: False if all connections are out, somebody waits, and none has changed hands for longer than the
            pool's timeout.
        reason: the same in a sentence, with its numbers.
        used: connections out now.
        limit: connections that may be out at once, infinite if unlimited.
        waiters: checkouts waiting now.
        unmoved_seconds: since when no connection has been given out, 0 if none is out.
    """

    pool: str
    ready: bool
    reason: str
    used: int
    limit: float
    waiters: int
    unmoved_seconds: float


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether this process is fit to serve: True if every pool is ready."""

    ready: bool
    pools: tuple[PoolReadiness, ...]

    def as_json(self) -> dict[str, Any]:
        """The same for ``json.dumps``, with ``None`` for what is unlimited."""
        pools = [{**asdict(pool), "limit": pool.limit if math.isfinite(pool.limit) else None} for pool in self.pools]
        return {"ready": self.ready, "pools": pools}


def readiness() -> Readiness:
    """Whether this process is fit to serve, for a readiness probe. It takes no connection and waits for nothing."""
    now = perf_counter()
    current = [(watched, current_pool(watched)) for watched in POOLS.watched()]
    pools = [_judge(watched, pool_limit(pool), now) for watched, pool in current if pool is not None]
    pools.sort(key=lambda pool: pool.pool)
    return Readiness(all(pool.ready for pool in pools), tuple(pools))


def _judge(watched: WatchedPool, limit: float, now: float) -> PoolReadiness:
    out = list(watched.open)
    waiters = len(watched.waiting)
    # With all of them out and somebody waiting, a connection that comes back is given out again at once: so as long as
    # none was given out, none has come back.
    unmoved = min((checkout.hold_seconds(now) for checkout in out), default=0.0)
    patience = watched.timeout if math.isfinite(watched.timeout) else DEFAULT_TIMEOUT_SECONDS
    stuck = len(out) >= limit and waiters > 0 and unmoved > patience
    reason = f"{len(out)} of {limit:g} connections are out" if math.isfinite(limit) else f"{len(out)} are out, no limit"
    if stuck:
        reason = (
            f"All {limit:g} connections are out, {waiters} waiting, and none has come back for {unmoved:.1f} s "
            f"(pool_timeout {watched.timeout:g} s)"
        )
    elif waiters:
        reason += f", {waiters} waiting, the last was given out {unmoved:.1f} s ago"
    return PoolReadiness(watched.name, not stuck, f"{reason}.", len(out), limit, waiters, unmoved)
