"""Histograms by themselves: which bucket an observation falls into, and which one is its exemplar."""

import pytest

from dbwatch.accumulators import Accumulators, Histogram


@pytest.mark.parametrize(("value", "bucket"), [(0.0, 0), (0.1, 0), (0.11, 1), (1.0, 1), (1.01, 2), (99.0, 2)])
def test_a_bucket_includes_its_upper_bound(value: float, bucket: int) -> None:
    histogram = Histogram((0.1, 1.0))
    histogram.observe(value)
    histogram.observe(value)
    assert [histogram.counts[number] for number in range(3)] == [2 if number == bucket else 0 for number in range(3)]
    assert histogram.sum == 2 * value


def test_each_bucket_keeps_its_last_exemplar() -> None:
    histogram = Histogram((0.1, 1.0))
    assert histogram.exemplars is None
    for value, trace in ((0.05, "a"), (5.0, "b"), (0.07, "c")):
        histogram.exemplify(value, {"trace_id": trace})
    assert histogram.exemplars is not None
    assert [one and (one.labels["trace_id"], one.value) for one in histogram.exemplars] == [
        ("c", 0.07),
        None,
        ("b", 5.0),
    ]


def test_a_series_is_made_at_zero_and_once() -> None:
    accumulators = Accumulators()
    counter = accumulators.counter("dbwatch_leaks_total", "shop", "gc")
    assert counter.value == 0
    assert accumulators.counter("dbwatch_leaks_total", "shop", "gc") is counter
    histogram = accumulators.histogram("dbwatch_hold_seconds", "shop")
    assert histogram.counts == [0] * (len(histogram.bounds) + 1)
    assert accumulators.histogram("dbwatch_hold_seconds", "shop") is histogram
