"""What one worker says of itself: a snapshot, its recent history and its findings as one document."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dbwatch.accumulators import Accumulators
from dbwatch.catalog import METRICS
from dbwatch.facts import Finding, Holder, PoolSnapshot, Waiter
from dbwatch.outputs.live import grouping, quantiles, verdict
from dbwatch.outputs.live.document import (
    VERSION,
    Gauges,
    HolderRow,
    RouteRow,
    Totals,
    WaiterRow,
    WorkerPool,
    WorkerState,
)
from dbwatch.outputs.live.history import History, PoolHistory, whole
from dbwatch.outputs.live.remarks import THREADS
from dbwatch.version import __version__

#: Holders and waiters listed for each pool, oldest first.
LISTED = 200

_CHECKOUT_BUCKETS = METRICS["dbwatch_checkout_seconds"].buckets


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the pools of this process have around them: ``threads`` that run plain ``def`` endpoints, and
    ``processes`` that have the same pools, as far as the environment says.
    """

    threads: int = THREADS
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts come from. Each callable may be called from any thread.

    ``snapshots`` folds what is pending first; ``returned`` are the leaks whose connection has come back.
    """

    snapshots: Callable[[], tuple[PoolSnapshot, ...]]
    waiters: Callable[[], dict[str, tuple[Waiter, ...]]]
    accumulators: Callable[[], Accumulators]
    findings: Callable[[], tuple[Finding, ...]]
    returned: Callable[[], tuple[Finding, ...]]
    surroundings: Callable[[], Surroundings] = Surroundings


class Reporter:
    """Samples the pools of this process and describes them."""

    def __init__(self, source: Source, pid: int, started_at: float) -> None:
        self._source = source
        self._pid = pid
        self._started_at = started_at
        self._history = History()
        self._snapshots: tuple[PoolSnapshot, ...] = ()
        self._window = 0.0

    def sample(self, at: int) -> None:
        """Take the sample of second ``at``."""
        self._snapshots = self._source.snapshots()
        self._history.sample(at, self._snapshots, self._source.accumulators())

    def report(self, at: float) -> WorkerState:
        """The document, as of the last sample."""
        accumulators = self._source.accumulators()
        self._window = self._history.window_seconds(int(at))
        waiters = self._source.waiters()
        surroundings = self._source.surroundings()
        return {
            "version": VERSION,
            "dbwatch": __version__,
            "pid": self._pid,
            "started_at": self._started_at,
            "at": at,
            "window_seconds": self._window,
            "threads": surroundings.threads,
            "processes": surroundings.processes,
            "pools": [self._pool(pool, waiters.get(pool.name, ()), accumulators) for pool in self._snapshots],
            "routes": self._routes(accumulators),
            "findings": grouping.group(self._source.findings(), self._source.returned(), self._pid),
        }

    def _pool(self, pool: PoolSnapshot, waiters: Iterable[Waiter], accumulators: Accumulators) -> WorkerPool:
        history = self._history.pools[pool.name]
        held = sorted(pool.holders, key=lambda holder: holder.age_seconds, reverse=True)
        holders = [self._holder(holder) for holder in held]
        now = _gauges(pool)
        totals, recent = history.window(accumulators, pool.name)
        waiting = [self._waiter(waiter) for waiter in waiters]
        _add_what_is_open(totals, held, waiting, self._window)
        needed = [sample.needed for sample in history.samples]
        p99 = quantiles.of_samples(needed, 0.99)
        return {
            "name": pool.name,
            "now": now,
            "verdict": verdict.judge(now, holders, _recent(history, recent)),
            "needed_p99": p99,
            "needed_peak": max([*needed, max(0, pool.used_peak - pool.leaked)]),
            "idle_share": history.idle_share(p99 or 0),
            "samples_counted": len(needed),
            "totals": totals,
            "slots": history.slots(),
            "samples": history.columns(),
            "attributes": dict(pool.attributes),
            "server_allows": pool.server_allows,
            "server_idle_seconds": pool.server_idle_seconds,
            "holders": holders[:LISTED],
            "waiting": waiting[:LISTED],
        }

    def _holder(self, holder: Holder) -> HolderRow:
        return {
            "worker": self._pid,
            "method": holder.method,
            "route": holder.route,
            "age_seconds": round(holder.age_seconds, 3),
            "state": "leaked" if holder.leaked else "executing" if holder.executing else "idle",
            "executing_seconds": round(holder.executing_seconds, 3),
            "statements": holder.statements,
            "overflow": holder.overflow,
            "lines": list(holder.lines),
            "now_at": holder.now_at,
            "made_at": holder.made_at,
            "last_statement": holder.last_statement,
        }

    def _waiter(self, waiter: Waiter) -> WaiterRow:
        return {
            "worker": self._pid,
            "method": waiter.method,
            "route": waiter.route,
            "waited_seconds": round(waiter.waited_seconds, 3),
        }

    def _routes(self, accumulators: Accumulators) -> list[RouteRow]:
        held: dict[tuple[str, str], list[float]] = {}
        for pool in self._snapshots:
            for holder in pool.holders:
                held.setdefault((holder.method, holder.route), []).append(min(holder.age_seconds, self._window))
        window = self._history.routes(accumulators)
        rows: list[RouteRow] = []
        for method, route in {**window, **held}:
            requests, seconds, wait, executing, statements, findings = window.get((method, route), (0,) * 6)
            open_holds = held.get((method, route), [])
            rows.append(
                {
                    "method": method,
                    "route": route,
                    "requests": int(requests),
                    "connection_seconds": round(seconds + sum(open_holds), 4),
                    "wait_seconds": round(wait, 4),
                    "executing_seconds": round(executing, 4),
                    "statements": int(statements),
                    "connections": len(open_holds),
                    "findings": int(findings),
                }
            )
        return rows


def _gauges(pool: PoolSnapshot) -> Gauges:
    return {
        "used": pool.used,
        "idle": pool.idle,
        "size": pool.size,
        "limit": whole(pool.limit),
        "overflow": pool.overflow,
        "waiters": pool.waiters,
        "leaked": pool.leaked,
        "used_peak": pool.used_peak,
        "oldest_waiter_seconds": round(pool.oldest_waiter_seconds, 3),
        "oldest_checkout_seconds": round(pool.oldest_checkout_seconds, 3),
        "timeout_seconds": None if whole(pool.timeout_seconds) is None else pool.timeout_seconds,
    }


def _add_what_is_open(totals: Totals, holders: list[Holder], waiting: list[WaiterRow], window: float) -> None:
    """Count the holds and waits so far that have not ended: what empties a pool has often not."""
    waited = sum(min(waiter["waited_seconds"], window) for waiter in waiting)
    totals["phases"] = {**totals["phases"], "wait": totals["phases"]["wait"] + waited}
    activity = totals["activity"] = dict(totals["activity"])
    for holder in holders:
        held = min(holder.age_seconds, window)
        executing = min(holder.executing_seconds, held)
        activity["executing"] += executing
        activity["idle" if holder.statements else "unknown"] += held - executing


def _recent(history: PoolHistory, totals: Totals) -> verdict.Recent:
    samples = list(history.samples)[-verdict.OVERFLOW_SAMPLES :]
    phases = totals["phases"]
    return verdict.Recent(
        timeouts=totals["outcomes"]["timeout"],
        checkouts=sum(totals["checkout_buckets"]),
        checkout_p95=quantiles.of_buckets(_CHECKOUT_BUCKETS, totals["checkout_buckets"], 0.95),
        largest_phase=max(phases, key=lambda phase: phases[phase]),
        least_overflow=min(sample.overflow for sample in samples) if len(samples) == verdict.OVERFLOW_SAMPLES else 0,
    )
