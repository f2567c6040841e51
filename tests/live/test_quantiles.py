import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbwatch.outputs.live.quantiles import of_buckets, of_samples


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    assert of_buckets((1.0, 2.0, 4.0), [0, 10, 10, 0], 0.75) == pytest.approx(3.0)


def test_beyond_the_last_bound_the_answer_is_that_bound() -> None:
    assert of_buckets((1.0, 2.0), [0, 0, 5], 0.5) == 2.0


def test_nothing_observed_has_no_quantile() -> None:
    assert of_buckets((1.0, 2.0), [0, 0, 0], 0.99) is None
    assert of_samples([], 0.99) is None


def test_of_a_hundred_samples_one_may_be_larger_than_the_99th_percentile() -> None:
    assert of_samples([*[3] * 99, 50], 0.99) == 3
    assert of_samples([*[3] * 98, 50, 60], 0.99) == 50


@given(st.lists(st.integers(0, 500), min_size=1), st.floats(0.01, 1.0))
def test_at_least_that_share_of_the_samples_is_not_larger(samples: list[int], quantile: float) -> None:
    found = of_samples(samples, quantile)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= quantile * len(samples) - 1e-9
    assert sum(sample < found for sample in samples) < quantile * len(samples) + 1e-9


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4))
def test_quantiles_of_buckets_rise_and_stay_within_the_bounds(counts: list[int]) -> None:
    found = [of_buckets((1.0, 2.0, 4.0), counts, quantile) for quantile in (0.5, 0.95, 0.99)]
    if not sum(counts):
        assert found == [None] * 3
    else:
        assert found == sorted(found)  # type: ignore[type-var]
        assert all(value is not None and 0 <= value <= 4 for value in found)
