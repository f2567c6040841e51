"""The series: counters and histograms by metric name and label values, plain numbers without locks.

Only the fold writes them. prometheus_client is not touched here: its own locks are not safe against the garbage
collector.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from dbwatch.catalog import METRICS


class Exemplar(NamedTuple):
    """One observation of a bucket with the labels that lead to it, and when it was made (seconds since the epoch)."""

    labels: dict[str, str]
    value: float
    at: float


class Cell:
    """The value of one counter series."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """One histogram series: observations per bucket (not cumulative, the last one unbounded) and their sum."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        #: The last exemplar of each bucket; None as long as there is none at all.
        self.exemplars: list[Exemplar | None] | None = None

    def observe(self, value: float) -> None:
        """Add one observation; a bucket includes its upper bound, as in Prometheus."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def exemplify(self, value: float, labels: dict[str, str]) -> None:
        """Make an observation the exemplar of its bucket."""
        if self.exemplars is None:
            self.exemplars = [None] * len(self.counts)
        self.exemplars[bisect_left(self.bounds, value)] = Exemplar(labels, value, time.time())


class Accumulators:
    """Every counter and histogram series, by metric name and label values in the catalogue's order."""

    def __init__(self) -> None:
        self.counters: dict[str, dict[tuple[str, ...], Cell]] = {}
        self.histograms: dict[str, dict[tuple[str, ...], Histogram]] = {}
        for metric in METRICS.values():
            if metric.kind == "counter":
                self.counters[metric.name] = {}
            elif metric.kind == "histogram":
                self.histograms[metric.name] = {}

    def counter(self, name: str, *labels: str) -> Cell:
        """The series of a counter, made at 0 when it is first asked for."""
        family = self.counters[name]
        cell = family.get(labels)
        if cell is None:
            cell = family[labels] = Cell()
        return cell

    def histogram(self, name: str, *labels: str) -> Histogram:
        """The series of a histogram, made empty when it is first asked for."""
        family = self.histograms[name]
        histogram = family.get(labels)
        if histogram is None:
            histogram = family[labels] = Histogram(METRICS[name].buckets)
        return histogram


class PoolSeries:
    """The series of one pool, bound once; making them puts every closed label combination at 0."""

    def __init__(self, accumulators: Accumulators, pool: str) -> None:
        counter, histogram = accumulators.counter, accumulators.histogram

        def each(name: str) -> dict[str, Cell]:
            return {value: counter(name, pool, value) for value in METRICS[name].values}

        self.checkout = {
            value: histogram("dbwatch_checkout_seconds", pool, value)
            for value in METRICS["dbwatch_checkout_seconds"].values
        }
        self.phase = {
            value: histogram("dbwatch_checkout_phase_seconds", pool, value)
            for value in METRICS["dbwatch_checkout_phase_seconds"].values
        }
        self.hold = histogram("dbwatch_hold_seconds", pool)
        activity = each("dbwatch_hold_activity_seconds_total")
        self.executing, self.idle, self.unknown = activity["executing"], activity["idle"], activity["unknown"]
        self.opened = counter("dbwatch_connections_opened_total", pool)
        self.connect_errors = counter("dbwatch_connect_errors_total", pool)
        self.overflow = counter("dbwatch_overflow_checkouts_total", pool)
        self.ping_failures = counter("dbwatch_pre_ping_failures_total", pool)
        self.timeouts = counter("dbwatch_checkout_timeouts_total", pool)
        self.leaks = each("dbwatch_leaks_total")
        self.leaks_returned = counter("dbwatch_leaks_returned_total", pool)
        self.closed = each("dbwatch_connections_closed_total")


class RouteSeries:
    """The series of one pair of method and route, bound once."""

    def __init__(self, accumulators: Accumulators, method: str, route: str) -> None:
        counter, histogram = accumulators.counter, accumulators.histogram
        self.checkout = histogram("dbwatch_request_checkout_seconds", method, route)
        self.hold = histogram("dbwatch_request_hold_seconds", method, route)
        self.wait = counter("dbwatch_request_wait_seconds_total", method, route)
        self.executing = counter("dbwatch_request_executing_seconds_total", method, route)
        self.checkouts = counter("dbwatch_request_checkouts_total", method, route)
        self.statements = counter("dbwatch_request_statements_total", method, route)
        self.blocked = counter("dbwatch_event_loop_blocked_seconds_total", method, route)
