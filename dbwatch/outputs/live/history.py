"""The last ten minutes: a sample of every pool each second, and what each pool and route had added up to at intervals.

Everything is bounded. Only the sampler's thread writes and reads here.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from dbwatch.accumulators import Accumulators, Histogram
from dbwatch.catalog import METRICS
from dbwatch.facts import PoolSnapshot
from dbwatch.outputs.live.document import Samples, Slots, Totals

#: Samples kept: ten minutes of seconds.
SAMPLES = 600
#: A slot of the checkout times; a window of ten minutes needs the marks at both of its ends.
SLOT_SECONDS = 10
MARKS = SAMPLES // SLOT_SECONDS + 1
_MINUTE_MARKS = 60 // SLOT_SECONDS
#: A hold younger than this is no idle hold yet, whatever it does.
IDLE_SECONDS = 0.5
#: Routes are many, so their marks are few: one a minute.
ROUTE_SECONDS = 60
ROUTE_MARKS = SAMPLES // ROUTE_SECONDS + 1

_OUTCOMES = METRICS["dbwatch_checkout_seconds"].values
_HOLD_BUCKETS = METRICS["dbwatch_hold_seconds"].buckets
_PHASES = METRICS["dbwatch_checkout_phase_seconds"].values
_ACTIVITIES = METRICS["dbwatch_hold_activity_seconds_total"].values

#: requests, connection-seconds, wait, executing, statements, findings
RouteNumbers = tuple[float, ...]
RouteMark = dict[tuple[str, str], RouteNumbers]


def whole(number: float) -> int | None:
    """A count that may be unlimited, as JSON can say it."""
    return None if math.isinf(number) else int(number)


def pool_totals(accumulators: Accumulators, pool: str) -> Totals:
    """What a pool has done since the process began."""
    checkouts = accumulators.histograms["dbwatch_checkout_seconds"]
    each = [checkouts[(pool, outcome)] for outcome in _OUTCOMES if (pool, outcome) in checkouts]
    phases = accumulators.histograms["dbwatch_checkout_phase_seconds"]
    hold = accumulators.histograms["dbwatch_hold_seconds"].get((pool,)) or Histogram(_HOLD_BUCKETS)
    activity = accumulators.counters["dbwatch_hold_activity_seconds_total"]
    buckets = len(METRICS["dbwatch_checkout_seconds"].buckets) + 1
    seconds = sum(histogram.sum for histogram in each)
    parts = {phase: phases[(pool, phase)].sum if (pool, phase) in phases else 0.0 for phase in _PHASES}
    return {
        "checkout_buckets": [sum(histogram.counts[number] for histogram in each) for number in range(buckets)],
        "checkout_seconds": seconds,
        "outcomes": {
            outcome: sum(checkouts[(pool, outcome)].counts) if (pool, outcome) in checkouts else 0
            for outcome in _OUTCOMES
        },
        # Other is what no phase accounts for: SQLAlchemy's own work.
        "phases": {**parts, "other": max(0.0, seconds - sum(parts.values()))},
        "hold_buckets": list(hold.counts),
        "hold_seconds": hold.sum,
        "activity": {name: activity[(pool, name)].value if (pool, name) in activity else 0.0 for name in _ACTIVITIES},
    }


def subtract(new: Totals, old: Totals | None) -> Totals:
    """What was added between two totals; everything if there is no older one."""
    if old is None:
        return new
    return {
        "checkout_buckets": _less(new["checkout_buckets"], old["checkout_buckets"]),
        "checkout_seconds": new["checkout_seconds"] - old["checkout_seconds"],
        "outcomes": {key: value - old["outcomes"][key] for key, value in new["outcomes"].items()},
        "phases": {key: value - old["phases"][key] for key, value in new["phases"].items()},
        "hold_buckets": _less(new["hold_buckets"], old["hold_buckets"]),
        "hold_seconds": new["hold_seconds"] - old["hold_seconds"],
        "activity": {key: value - old["activity"][key] for key, value in new["activity"].items()},
    }


def _less(new: list[int], old: list[int]) -> list[int]:
    return [mine - theirs for mine, theirs in zip(new, old, strict=True)]


class Sample(NamedTuple):
    """A pool in one second. ``idle_held`` are the holds that have been idle for most of at least half a second."""

    at: int
    used: int
    idle: int
    overflow: int
    waiters: int
    leaked: int
    size: int
    limit: int | None
    idle_held: int

    @property
    def needed(self) -> int:
        """Connections needed: used, less the leaked ones, which serve nobody, plus waiters."""
        return max(0, self.used - self.leaked) + self.waiters


def take_sample(at: int, pool: PoolSnapshot) -> Sample:
    """The sample of a pool at second ``at``."""
    return Sample(
        at=at,
        used=pool.used,
        idle=pool.idle,
        overflow=pool.overflow,
        waiters=pool.waiters,
        leaked=pool.leaked,
        size=pool.size,
        limit=whole(pool.limit),
        idle_held=sum(
            not holder.leaked
            and holder.age_seconds >= IDLE_SECONDS
            and holder.executing_seconds < holder.age_seconds / 2
            for holder in pool.holders
        ),
    )


@dataclass(slots=True)
class PoolHistory:
    """One pool: samples, and totals at the end of each slot."""

    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    marks: deque[tuple[int, Totals]] = field(default_factory=lambda: deque(maxlen=MARKS))

    def columns(self, last: int = SAMPLES) -> Samples:
        """The last samples as columns."""
        rows = list(self.samples)[-last:]
        return {
            "at": [row.at for row in rows],
            "used": [row.used for row in rows],
            "idle": [row.idle for row in rows],
            "overflow": [row.overflow for row in rows],
            "waiters": [row.waiters for row in rows],
            "leaked": [row.leaked for row in rows],
            "size": [row.size for row in rows],
            "limit": [row.limit for row in rows],
        }

    def idle_share(self, needed: int) -> float:
        """When so many connections or more were needed: the share of those held that had long run no SQL."""
        busiest = [row for row in self.samples if row.needed >= needed]
        held = sum(row.used - row.leaked for row in busiest)
        return sum(row.idle_held for row in busiest) / held if held > 0 else 0.0

    def slots(self) -> Slots:
        """Checkouts in each slot that is complete."""
        marks = list(self.marks)
        between = [subtract(new, old) for (_, old), (_, new) in pairwise(marks)]
        return {
            "at": [at for at, _ in marks[1:]],
            "buckets": [slot["checkout_buckets"] for slot in between],
            "timeouts": [slot["outcomes"]["timeout"] for slot in between],
        }

    def window(self, accumulators: Accumulators, pool: str) -> tuple[Totals, Totals]:
        """What the pool has done in the window, and in the last minute. The window of a young process is its life."""
        now = pool_totals(accumulators, pool)
        start = self.marks[0][1] if len(self.marks) == MARKS else None
        minute = self.marks[-_MINUTE_MARKS][1] if len(self.marks) >= _MINUTE_MARKS else None
        return subtract(now, start), subtract(now, minute)


class History:
    """The last ten minutes of this process."""

    def __init__(self) -> None:
        self.pools: dict[str, PoolHistory] = {}
        self._route_marks: deque[tuple[int, RouteMark]] = deque(maxlen=ROUTE_MARKS)
        self._first: int | None = None

    def sample(self, at: int, snapshots: tuple[PoolSnapshot, ...], accumulators: Accumulators) -> None:
        """Take the sample of second ``at``."""
        if self._first is None:
            self._first = at
        names = {pool.name for pool in snapshots}
        for gone in self.pools.keys() - names:
            del self.pools[gone]
        for pool in snapshots:
            history = self.pools.get(pool.name)
            if history is None:
                history = self.pools[pool.name] = PoolHistory()
            if not history.marks or at // SLOT_SECONDS != history.marks[-1][0] // SLOT_SECONDS:
                history.marks.append((at, pool_totals(accumulators, pool.name)))
            if history.samples and history.samples[-1].at == at:
                history.samples.pop()  # somebody asked for advice between two seconds
            history.samples.append(take_sample(at, pool))
        if not self._route_marks or at // ROUTE_SECONDS != self._route_marks[-1][0] // ROUTE_SECONDS:
            self._route_marks.append((at, route_numbers(accumulators)))

    def window_seconds(self, at: int) -> float:
        """How far back the history reaches at second ``at``."""
        return 0.0 if self._first is None else float(min(SAMPLES, at - self._first))

    def routes(self, accumulators: Accumulators) -> RouteMark:
        """What each route has added in the window; routes that did nothing are left out."""
        before = self._route_marks[0][1] if len(self._route_marks) == ROUTE_MARKS else {}
        window = {}
        for labels, numbers in route_numbers(accumulators).items():
            old = before.get(labels)
            added = numbers if old is None else tuple(new - was for new, was in zip(numbers, old, strict=True))
            if any(added):
                window[labels] = added
        return window


def route_numbers(accumulators: Accumulators) -> RouteMark:
    """What each route has added up to since the process began."""
    counters = accumulators.counters
    found: dict[tuple[str, str], int] = {}
    for (_, _, method, route), cell in list(counters["dbwatch_findings_total"].items()):
        found[(method, route)] = found.get((method, route), 0) + int(cell.value)
    numbers: RouteMark = {}
    for labels, hold in list(accumulators.histograms["dbwatch_request_hold_seconds"].items()):
        key = (labels[0], labels[1])
        numbers[key] = (
            sum(hold.counts),
            hold.sum,
            counters["dbwatch_request_wait_seconds_total"][labels].value,
            counters["dbwatch_request_executing_seconds_total"][labels].value,
            counters["dbwatch_request_statements_total"][labels].value,
            found.pop(key, 0),
        )
    # A finding may name a route that has not ended a request with a checkout.
    numbers.update({key: (0, 0.0, 0.0, 0.0, 0, count) for key, count in found.items()})
    return numbers
