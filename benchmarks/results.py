"""From samples to figures: what a variant adds per request, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median, quantiles

from benchmarks.rounds import Samples
from benchmarks.variants import NAMES
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class Added:
    """CPU seconds that a variant adds to a request.

    ``median`` is the median of the differences to the bare app, between ``lowest`` and ``highest``
    with 95 % confidence as far as rounds are independent; ``quiet`` is the difference of the tenth percentiles, which
    a busy machine hardly moves.
    """

    variant: str
    title: str
    median: float
    lowest: float
    highest: float
    quiet: float


@dataclass(frozen=True, slots=True)
class Result:
    """One workload: CPU seconds of a request to the bare app, and what each variant adds."""

    workload: str
    title: str
    statements: int
    checkouts: int
    bare: float
    bare_quiet: float
    added: tuple[Added, ...]
    unavailable: Mapping[str, str]


def evaluate(workload: Workload, samples: Samples) -> Result:
    """The figures of a workload."""
    rows = []
    everywhere: list[float] = []
    for variant, pairs in samples.pairs.items():
        bare = [one for one, _ in pairs]
        everywhere += bare
        differences = sorted(other - one for one, other in pairs)
        lowest, highest = interval(differences)
        quiet = _tenth_percentile([other for _, other in pairs]) - _tenth_percentile(bare)
        rows.append(Added(variant, samples.titles[variant], median(differences), lowest, highest, quiet))
    rows.sort(key=lambda row: NAMES.index(row.variant))
    return Result(
        workload.name,
        workload.title,
        workload.statements,
        workload.checkouts,
        median(everywhere),
        _tenth_percentile(everywhere),
        tuple(rows),
        dict(samples.unavailable),
    )


def interval(ordered: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, from the order statistics."""
    middle, width = len(ordered) / 2, 0.98 * sqrt(len(ordered))
    return ordered[max(0, int(middle - width))], ordered[min(len(ordered) - 1, int(middle + width))]


def _tenth_percentile(values: Sequence[float]) -> float:
    return quantiles(values, n=10)[0]
