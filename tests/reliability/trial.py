"""One fault from its beginning to the time when everything must be as before, and what is then found wrong."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from tests.reliability.faults import COUNTERS, INVALIDATED, Fault
from tests.reliability.shop import LIMIT
from tests.reliability.stage import Samples, Stage, engines
from tests.servers.waiting import eventually

_OUTCOMES = ("ok", "timeout", "error", "cancelled")


@dataclass
class Trial:
    """What came of a fault."""

    sent: int
    differences: list[str]
    slots_lost: int
    violations: list[str] = field(default_factory=list)


def try_out(stage: Stage, fault: Fault) -> Trial:
    """Fill the pools, inject the fault, let the app recover, take every connection, and look."""
    names = engines(fault.kind)
    reachable = fault.kind != "lost"
    sent, known = stage.sent, len(stage.differences)
    if reachable:
        _recover(stage, names)
    before = stage.watched.samples()
    try:
        fault.inject(stage, fault.kind)
    finally:
        stage.heal()  # whatever came of it: the next fault shall not begin with what is left of this one
    if reachable:
        _recover(stage, names)
    trial = Trial(0, [], sum(stage.watched.state()["engines"][name]["out"] for name in names))
    after: Samples = {}

    def in_order() -> bool:
        after.clear()
        after.update(stage.watched.samples())
        trial.violations = list(_wrong(stage, fault, names, after))
        return not trial.violations

    with suppress(TimeoutError):
        eventually(in_order, 5.0)
    for name in names:
        moved = {counter for counter in COUNTERS if _failures(after, counter, name) > _failures(before, counter, name)}
        if moved != fault.moves(name):
            trial.violations.append(f"{name}: {sorted(moved)} moved, not {sorted(fault.moves(name))}")
    trial.sent, trial.differences = stage.sent - sent, stage.differences[known:]
    return trial


def _recover(stage: Stage, names: list[str]) -> None:
    """Ask until both apps have thrown away what is broken, and then for every connection at once."""
    for _ in range(LIMIT):
        stage.ask(names, "read")
    full = '"' + " ".join(["#"] * LIMIT) + '"'
    for name in names:
        for answer in stage.ask([name], "fill"):
            assert (answer.status, answer.body) == (200, full), f"{name} has not recovered: {answer}"


def _wrong(stage: Stage, fault: Fault, names: list[str], samples: Samples) -> Iterator[str]:
    """What does not hold now that nobody asks any more."""
    bare, watched = (app.state()["engines"] for app in stage.apps)
    for name in names:
        if bare[name] != watched[name]:
            yield f"{name}: the pool is {watched[name]}, and {bare[name]} without dbwatch"
        yield from _wrong_gauges(samples, name, None if fault.kind == "lost" else watched[name]["in"])
        yield from _wrong_counts(samples, name, watched[name]["checkouts"])
    for (metric, labels), value in samples.items():
        if metric in ("dbwatch_route_connections", "dbwatch_internal_errors_total") and value:
            yield f"{metric} of {dict(labels)} is {value}"
    if fault.kind in stage.watched.proxies:
        real = stage.watched.proxies[fault.kind].connections
        told = sum(_sum(samples, "dbwatch_pool_connections", name, state="idle") for name in names)
        if told != real:
            yield f"{told} idle, where {real} connections lead to the server"


def _wrong_gauges(samples: Samples, name: str, free: int | None) -> Iterator[str]:
    used, idle = (_sum(samples, "dbwatch_pool_connections", name, state=state) for state in ("used", "idle"))
    opened = _sum(samples, "dbwatch_connections_opened_total", name)
    closed = _sum(samples, "dbwatch_connections_closed_total", name)
    if opened - closed != used + idle:
        yield f"{name}: {opened} opened less {closed} closed are not {used} used and {idle} idle"
    if free is not None and idle != free:
        yield f"{name}: {idle} idle, where the pool has {free}"
    if used:
        yield f"{name}: {used} still used"
    for gauge in ("overflow_connections", "waiters", "leaked_connections", "oldest_checkout_seconds"):
        if _sum(samples, f"dbwatch_pool_{gauge}", name):
            yield f"{name}: {gauge} has not returned to 0"


def _wrong_counts(samples: Samples, name: str, known: dict[str, int]) -> Iterator[str]:
    for outcome in _OUTCOMES:
        counted = _sum(samples, "dbwatch_checkout_seconds_count", name, outcome=outcome)
        if counted != known.get(outcome, 0):
            yield f"{name}: {counted} checkouts {outcome}, where the app knows of {known}"
    held = _sum(samples, "dbwatch_hold_seconds_count", name)
    if held != known.get("ok", 0):
        yield f"{name}: {held} holds, where the app knows of {known}"


def _failures(samples: Samples, counter: str, pool: str) -> float:
    if counter == INVALIDATED:
        return _sum(samples, counter, pool, reason="invalidated")
    return _sum(samples, counter, pool)


def _sum(samples: Samples, metric: str, pool: str, **labels: str) -> float:
    wanted = {("pool", pool), *labels.items()}
    return sum(value for (name, found), value in samples.items() if name == metric and wanted <= found)
