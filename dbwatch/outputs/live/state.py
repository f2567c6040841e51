"""The state of all workers together, as the page and ``api/state`` show it."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from dbwatch.catalog import METRICS
from dbwatch.outputs.live import grouping, quantiles, sizing, verdict
from dbwatch.outputs.live.document import (
    VERSION,
    Advice,
    CheckoutHistory,
    Gauges,
    Pool,
    Remark,
    RouteRow,
    Samples,
    Share,
    State,
    Times,
    Totals,
    Verdict,
    Worker,
    WorkerPool,
    WorkerState,
)
from dbwatch.outputs.live.history import SAMPLES, SLOT_SECONDS
from dbwatch.outputs.live.remarks import Configuration, remarks
from dbwatch.settings import THRESHOLDS
from dbwatch.version import __version__

#: Seconds without news from which a living worker is called late.
LATE_SECONDS = 5.0
#: Holders, waiters and routes shown.
SHOWN = 200

_CHECKOUT_BUCKETS = METRICS["dbwatch_checkout_seconds"].buckets
_HOLD_BUCKETS = METRICS["dbwatch_hold_seconds"].buckets
_COLUMNS = ("used", "idle", "overflow", "waiters", "leaked", "size")

T = TypeVar("T")


def merge(workers: Sequence[WorkerState], now: float, last: int = SAMPLES) -> State:
    """The state of these workers at ``now``, with the ``last`` seconds of history.

    Counts are added up. A verdict and an advice are those of the worker that is worst off, because each worker has a
    pool of its own and one of them can be empty while the others idle.
    """
    window = max((worker["window_seconds"] for worker in workers), default=0.0)
    parts: dict[str, list[tuple[WorkerState, WorkerPool]]] = {}
    for worker in workers:
        for pool in worker["pools"]:
            parts.setdefault(pool["name"], []).append((worker, pool))
    pools = [_pool(name, shares, len(workers), now, last) for name, shares in sorted(parts.items())]
    pools.sort(key=lambda pool: verdict.seriousness(pool["verdict"]), reverse=True)  # of equals, by name
    return {
        "version": VERSION,
        "dbwatch": __version__,
        "at": now,
        "window_seconds": window,
        "verdict": verdict.overall([(pool["name"], pool["verdict"]) for pool in pools]),
        "workers": [_worker(worker, now) for worker in workers],
        "pools": pools,
        "routes": _routes(workers),
        "findings": grouping.merge(worker["findings"] for worker in workers),
    }


def _worker(worker: WorkerState, now: float) -> Worker:
    return {
        "pid": worker["pid"],
        "started_at": worker["started_at"],
        "at": worker["at"],
        "late": now - worker["at"] > LATE_SECONDS,
    }


def _pool(name: str, parts: list[tuple[WorkerState, WorkerPool]], workers: int, now: float, last: int) -> Pool:
    pools = [pool for _, pool in parts]
    window = max(worker["window_seconds"] for worker, _ in parts)
    totals = _add_totals([pool["totals"] for pool in pools])
    first = pools[0]
    return {
        "name": name,
        "now": _gauges([pool["now"] for pool in pools]),
        "verdict": _verdict(parts, workers),
        "workers": [_share(worker, pool) for worker, pool in parts],
        "checkout": _times(totals["checkout_buckets"], totals["checkout_seconds"], window, _CHECKOUT_BUCKETS),
        "outcomes": totals["outcomes"],
        "phases": {key: round(value, 4) for key, value in totals["phases"].items()},
        "hold": _times(totals["hold_buckets"], totals["hold_seconds"], window, _HOLD_BUCKETS),
        "activity": {key: round(value, 4) for key, value in totals["activity"].items()},
        "advice": _advice(parts),
        "attributes": first["attributes"],
        "remarks": _remarks(parts),
        "holders": _oldest((row for pool in pools for row in pool["holders"]), lambda row: row["age_seconds"]),
        "waiting": _oldest((row for pool in pools for row in pool["waiting"]), lambda row: row["waited_seconds"]),
        "history": _history([pool["samples"] for pool in pools], int(now), last),
        "checkout_history": _checkout_history(pools, int(now), last),
    }


def _gauges(each: list[Gauges]) -> Gauges:
    limits = [now["limit"] for now in each]
    timeouts = [now["timeout_seconds"] for now in each]
    return {
        "used": sum(now["used"] for now in each),
        "idle": sum(now["idle"] for now in each),
        "size": sum(now["size"] for now in each),
        "limit": _sum_or_none(limits),
        "overflow": sum(now["overflow"] for now in each),
        "waiters": sum(now["waiters"] for now in each),
        "leaked": sum(now["leaked"] for now in each),
        "used_peak": sum(now["used_peak"] for now in each),
        "oldest_waiter_seconds": max(now["oldest_waiter_seconds"] for now in each),
        "oldest_checkout_seconds": max(now["oldest_checkout_seconds"] for now in each),
        "timeout_seconds": None if None in timeouts else max(one for one in timeouts if one is not None),
    }


def _sum_or_none(numbers: list[int | None]) -> int | None:
    return None if None in numbers else sum(number for number in numbers if number is not None)


def _verdict(parts: list[tuple[WorkerState, WorkerPool]], workers: int) -> Verdict:
    worst = verdict.worst([pool["verdict"] for _, pool in parts])
    if workers == 1:
        return worst
    if worst["level"] == "ok":
        used = sum(pool["now"]["used"] for _, pool in parts)
        limit = _sum_or_none([pool["now"]["limit"] for _, pool in parts])
        of = "" if limit is None else f" of {limit}"
        text = f"Healthy in all {len(parts)} workers: {used}{of} connections used, nobody waiting for long."
        return {"level": "ok", "text": text}
    bad = [worker["pid"] for worker, pool in parts if pool["verdict"]["level"] == worst["level"]]
    pid = next(worker["pid"] for worker, pool in parts if pool["verdict"] == worst)
    others = f" ({len(bad)} of {workers} workers are like this)" if len(bad) > 1 else ""
    return {"level": worst["level"], "text": f"Worker {pid}: {worst['text']}{others}"}


def _share(worker: WorkerState, pool: WorkerPool) -> Share:
    now = pool["now"]
    return {
        "pid": worker["pid"],
        "used": now["used"],
        "idle": now["idle"],
        "size": now["size"],
        "limit": now["limit"],
        "waiters": now["waiters"],
        "verdict": pool["verdict"],
    }


def _add_totals(each: list[Totals]) -> Totals:
    return {
        "checkout_buckets": _columns_sum([one["checkout_buckets"] for one in each]),
        "checkout_seconds": sum(one["checkout_seconds"] for one in each),
        "outcomes": {key: sum(one["outcomes"][key] for one in each) for key in each[0]["outcomes"]},
        "phases": {key: sum(one["phases"][key] for one in each) for key in each[0]["phases"]},
        "hold_buckets": _columns_sum([one["hold_buckets"] for one in each]),
        "hold_seconds": sum(one["hold_seconds"] for one in each),
        "activity": {key: sum(one["activity"][key] for one in each) for key in each[0]["activity"]},
    }


def _columns_sum(rows: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _times(buckets: list[int], total: float, window: float, bounds: tuple[float, ...]) -> Times:
    count = sum(buckets)
    return {
        "count": count,
        "per_second": count / max(window, 1.0),
        "mean": total / count if count else None,
        "p50": quantiles.of_buckets(bounds, buckets, 0.5),
        "p95": quantiles.of_buckets(bounds, buckets, 0.95),
        "p99": quantiles.of_buckets(bounds, buckets, 0.99),
    }


def _advice(parts: list[tuple[WorkerState, WorkerPool]]) -> Advice:
    worker, pool = max(parts, key=lambda part: (part[1]["needed_p99"] or 0, part[1]["needed_peak"]))
    holds = sum(pool["totals"]["hold_buckets"])
    return sizing.advise(
        rate=holds / max(worker["window_seconds"], 1.0),
        hold=pool["totals"]["hold_seconds"] / holds if holds else 0.0,
        samples=pool["samples_counted"],
        needed_p99=pool["needed_p99"],
        needed_peak=pool["needed_peak"],
        size=pool["now"]["size"],
        limit=pool["now"]["limit"],
        idle_share=pool["idle_share"],
        workers=len(parts),
        pools_connections="QueuePool" in pool["attributes"].get("pool_class", ""),
    )


def _remarks(parts: list[tuple[WorkerState, WorkerPool]]) -> list[Remark]:
    worker, first = parts[0]
    limits = [pool["now"]["limit"] for _, pool in parts]
    found = remarks(
        Configuration(
            first["attributes"],
            size=first["now"]["size"],
            limit=None if None in limits else max(limit for limit in limits if limit is not None),
            timeout=first["now"]["timeout_seconds"],
            workers=max(len(parts), worker["processes"]),
            threads=worker["threads"],
            server_allows=max((pool["server_allows"] for _, pool in parts if pool["server_allows"]), default=None),
            server_idle_seconds=first["server_idle_seconds"],
        )
    )
    return [
        {"name": remark.name, "setting": remark.setting, "level": remark.level, "text": remark.text}
        for remark in found
        if remark.name not in THRESHOLDS.ignore_advice
    ]


def _oldest(rows: Iterable[T], age: Callable[[T], float]) -> list[T]:
    return sorted(rows, key=age, reverse=True)[:SHOWN]


def _history(each: list[Samples], now: int, last: int) -> Samples:
    """Samples of all workers added up, second by second. A second that a worker missed takes its sample before."""
    first = max(now - last, min((one["at"][0] for one in each if one["at"]), default=now))
    merged: Samples = {
        "at": list(range(first, now + 1)),
        "used": [],
        "idle": [],
        "overflow": [],
        "waiters": [],
        "leaked": [],
        "size": [],
        "limit": [],
    }
    positions = [0] * len(each)
    for second in merged["at"]:
        sums = dict.fromkeys(_COLUMNS, 0)
        limit: int | None = 0
        for number, one in enumerate(each):
            position = positions[number]
            while position + 1 < len(one["at"]) and one["at"][position + 1] <= second:
                position += 1
            positions[number] = position
            if not one["at"] or one["at"][position] > second:
                continue
            for column in _COLUMNS:
                sums[column] += one[column][position]  # type: ignore[literal-required]
            theirs = one["limit"][position]
            limit = None if limit is None or theirs is None else limit + theirs
        for column in _COLUMNS:
            merged[column].append(sums[column])  # type: ignore[literal-required]
        merged["limit"].append(limit)
    return merged


def _checkout_history(pools: list[WorkerPool], now: int, last: int) -> CheckoutHistory:
    slots: dict[int, list[list[int]]] = {}
    for pool in pools:
        for at, buckets in zip(pool["slots"]["at"], pool["slots"]["buckets"], strict=True):
            if at > now - last:
                # A worker that skipped a second ends its slot a second later than the others.
                slots.setdefault(at // SLOT_SECONDS * SLOT_SECONDS, []).append(buckets)
    merged: CheckoutHistory = {"at": [], "p50": [], "p95": [], "p99": []}
    for at in sorted(slots):
        buckets = _columns_sum(slots[at])
        merged["at"].append(at)
        merged["p50"].append(quantiles.of_buckets(_CHECKOUT_BUCKETS, buckets, 0.5))
        merged["p95"].append(quantiles.of_buckets(_CHECKOUT_BUCKETS, buckets, 0.95))
        merged["p99"].append(quantiles.of_buckets(_CHECKOUT_BUCKETS, buckets, 0.99))
    return merged


def _routes(workers: Sequence[WorkerState]) -> list[RouteRow]:
    rows: dict[tuple[str, str], RouteRow] = {}
    for worker in workers:
        for row in worker["routes"]:
            known = rows.get((row["method"], row["route"]))
            if known is None:
                rows[(row["method"], row["route"])] = row.copy()
                continue
            known["requests"] += row["requests"]
            known["connection_seconds"] += row["connection_seconds"]
            known["wait_seconds"] += row["wait_seconds"]
            known["executing_seconds"] += row["executing_seconds"]
            known["statements"] += row["statements"]
            known["connections"] += row["connections"]
            known["findings"] += row["findings"]
    return sorted(rows.values(), key=lambda row: row["connection_seconds"], reverse=True)[:SHOWN]
