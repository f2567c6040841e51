"""The accumulators of this process, read by name, and emptied between tests."""

import gc

import dbwatch
from dbwatch import runtime
from dbwatch.facts import PoolSnapshot
from dbwatch.ledger import LEDGER
from dbwatch.pools import POOLS


def open_new_books() -> None:
    """Forget every engine, name and count, as if the process had just started; the hooks stay."""
    gc.collect()
    dbwatch.install()
    POOLS._engines.clear()
    POOLS._pools.clear()
    POOLS._sites.clear()
    POOLS._names.clear()
    runtime._start_anew()


class Books:
    """What has been counted for one pool name."""

    def __init__(self, pool: str) -> None:
        self.pool = pool

    def counted(self, metric: str) -> dict[str, float]:
        """A counter of this pool by its second label, or under an empty string if it has none."""
        found: dict[str, float] = {}
        for labels, cell in LEDGER.accumulators.counters[metric].items():
            if labels[0] == self.pool:
                key = labels[-1] if len(labels) > 1 else ""
                found[key] = found.get(key, 0) + cell.value
        return found

    def total(self, metric: str) -> float:
        """All series of this pool's counter together."""
        return sum(self.counted(metric).values())

    def observed(self, metric: str) -> dict[str, int]:
        """Observations of a histogram of this pool by its second label, or under an empty string if it has none."""
        return {
            labels[1] if len(labels) > 1 else "": sum(histogram.counts)
            for labels, histogram in LEDGER.accumulators.histograms[metric].items()
            if labels[0] == self.pool
        }

    def snapshot(self) -> PoolSnapshot:
        """The pool now."""
        (found,) = (pool for pool in dbwatch.snapshot() if pool.name == self.pool)
        return found


def internal_errors() -> dict[str, float]:
    """Errors of dbwatch itself so far, by site."""
    dbwatch.flush()
    errors = LEDGER.accumulators.counters["dbwatch_internal_errors_total"]
    return {labels[0]: cell.value for labels, cell in errors.items() if cell.value}
