"""Reading the numbers as a scraper does: by metric name and labels."""

import gc
import warnings

from prometheus_client import CollectorRegistry

import dbwatch
from dbwatch import runtime
from dbwatch.facts import PoolSnapshot
from dbwatch.pools import POOLS


class Numbers:
    """What the metrics page says now: ``numbers("dbwatch_leaks_total", kind="gc")`` adds up what carries that label."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        runtime.exposition(self._registry)

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that carry these labels; 0 if a known metric has none."""
        family = name
        for suffix in ("_total", "_count", "_sum", "_bucket"):
            family = family.removesuffix(suffix)
        total = 0.0
        known = False
        for metric in self._registry.collect():
            if metric.name != family:
                continue
            known = True
            for sample in metric.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        assert known, f"there is no metric {family}"
        return total

    def labels(self, name: str, label: str) -> set[str]:
        """The values of a label among the samples of this name."""
        return {
            sample.labels[label]
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name == name
        }

    def nonzero(self, name: str, label: str) -> dict[str, float]:
        """The samples of this name that are not 0, added up by the value of one label."""
        found = {value: self(name, **{label: value}) for value in self.labels(name, label)}
        return {value: count for value, count in found.items() if count}

    def snapshot(self) -> PoolSnapshot:
        """The snapshot of the only pool there is."""
        (pool,) = dbwatch.snapshot()
        return pool

    def checkouts(self, outcome: str) -> float:
        """Checkouts that ended in this outcome."""
        return self("dbwatch_checkout_seconds_count", outcome=outcome)

    def phase(self, phase: str) -> tuple[float, float]:
        """How often a phase of the checkout happened, and its seconds."""
        return (
            self("dbwatch_checkout_phase_seconds_count", phase=phase),
            self("dbwatch_checkout_phase_seconds_sum", phase=phase),
        )

    def activity(self, activity: str) -> float:
        """Seconds of all holds that ended, spent in this activity."""
        return self("dbwatch_hold_activity_seconds_total", activity=activity)

    def leaks(self, kind: str) -> float:
        """Leaks of a kind."""
        return self("dbwatch_leaks_total", kind=kind)

    def closed(self) -> dict[str, float]:
        """Connections closed, by reason; reasons that did not happen are left out."""
        return self.nonzero("dbwatch_connections_closed_total", "reason")


def start_anew() -> None:
    """Forget every engine, name and count, as if the process had just started; the hooks stay.

    What earlier tests have left goes first: that it was not closed is not this test's affair.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    dbwatch.install()
    POOLS._engines.clear()
    POOLS._pools.clear()
    POOLS._sites.clear()
    POOLS._names.clear()
    runtime._start_anew()
