"""The gauges of the catalogue, computed from snapshots of the pools. Every output takes them from here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dbwatch.accumulators import Accumulators
from dbwatch.facts import PoolSnapshot

Series = dict[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the numbers come from: accumulators after a fold, and gauges by metric name and label values."""

    accumulators: Callable[[], Accumulators]
    gauges: Callable[[], Mapping[str, Series]]


def pool_gauges(snapshots: Iterable[PoolSnapshot]) -> dict[str, Series]:
    """Every pool-level gauge by metric name and label values."""
    gauges: dict[str, Series] = {name: {} for name in (*_POOL_GAUGES, *_OTHER_GAUGES)}
    for pool in snapshots:
        for name, read in _POOL_GAUGES.items():
            gauges[name][(pool.name,)] = read(pool)
        gauges["dbwatch_pool_connections"][(pool.name, "used")] = pool.used
        gauges["dbwatch_pool_connections"][(pool.name, "idle")] = pool.idle
        if pool.server_allows:
            gauges["dbwatch_server_max_connections"][(pool.name,)] = pool.server_allows
            gauges["dbwatch_pool_server_share_ratio"][(pool.name,)] = pool.limit / pool.server_allows
        gauges["dbwatch_pool_info"][(pool.name, *pool.attributes.values())] = 1
    return gauges


def route_connections(
    snapshots: Iterable[PoolSnapshot],
    known: Iterable[tuple[str, str]],
    bound: Callable[[tuple[str, str]], tuple[str, str]],
) -> Series:
    """Connections held now by method and route: 0 for every route known, so that a line falls to 0 and not to
    nothing.
    """
    held: Series = dict.fromkeys(known, 0)
    for pool in snapshots:
        for holder in pool.holders:
            labels = bound((holder.method, holder.route))
            held[labels] = held.get(labels, 0) + 1
    return held


_OTHER_GAUGES = (
    "dbwatch_pool_connections",
    "dbwatch_pool_info",
    "dbwatch_pool_server_share_ratio",
    "dbwatch_server_max_connections",
)
_POOL_GAUGES: dict[str, Callable[[PoolSnapshot], float]] = {
    "dbwatch_pool_size": lambda pool: pool.size,
    "dbwatch_pool_limit": lambda pool: pool.limit,
    "dbwatch_pool_overflow_connections": lambda pool: pool.overflow,
    "dbwatch_pool_waiters": lambda pool: pool.waiters,
    "dbwatch_pool_leaked_connections": lambda pool: pool.leaked,
    "dbwatch_pool_used_peak_connections": lambda pool: pool.used_peak,
    "dbwatch_pool_oldest_waiter_seconds": lambda pool: pool.oldest_waiter_seconds,
    "dbwatch_pool_oldest_checkout_seconds": lambda pool: pool.oldest_checkout_seconds,
    "dbwatch_pool_timeout_seconds": lambda pool: pool.timeout_seconds,
}
