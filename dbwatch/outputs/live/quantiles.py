"""Quantiles: of histogram buckets, of counts per value, and percentiles of a list of samples."""

import math
from collections.abc import Sequence


def of_buckets(bounds: Sequence[float], counts: Sequence[int], quantile: float) -> float | None:
    """The quantile of observations counted in buckets, None without an observation.

    Interpolated within the bucket, as Prometheus does; in the last bucket, which has no upper bound, the answer is
    the highest bound.
    """
    rank = quantile * sum(counts)
    if rank == 0:
        return None
    below, lower = 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below += count
        lower = bound
    return lower


def of_samples(samples: Sequence[int], quantile: float) -> int | None:
    """The smallest sample that at least this share of the samples do not exceed (nearest rank), None without any."""
    if not samples:
        return None
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]
