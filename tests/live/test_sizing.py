from typing import Any

import pytest

from dbwatch.outputs.live.document import Advice
from dbwatch.outputs.live.sizing import ENOUGH_SAMPLES, ENOUGH_TO_LOWER, advise


def advice(**given: Any) -> Advice:
    facts: dict[str, Any] = {
        "rate": 40.0,
        "hold": 0.05,
        "samples": 600,
        "needed_p99": 6,
        "needed_peak": 9,
        "size": 5,
        "limit": 15,
        **given,
    }
    return advise(**facts)


def test_the_mean_is_rate_times_hold_and_the_arithmetic_is_shown() -> None:
    given = advice()
    assert given["mean_needed"] == pytest.approx(2.0)
    assert given["arithmetic"] == (
        "40.0 checkouts/s x 50.0 ms mean hold = 2.0 connections on average; p99 of used + waiters over 600 samples: 6; "
        "peak: 9"
    )


def test_the_size_comes_from_the_99th_percentile_and_the_limit_from_the_peak() -> None:
    given = advice()
    assert (given["action"], given["size"], given["limit"]) == ("raise", 6, 9)
    assert given["text"] == "Raise to pool_size=6, max_overflow=3: 99 % of the time 6 are enough, the size is 5."


def test_a_limit_below_the_peak_is_raised_though_the_size_is_enough() -> None:
    given = advice(size=8, limit=8)
    assert given["text"] == "Raise to pool_size=6, max_overflow=3: at the peak 9 were needed, the limit is 8."


def test_where_holds_are_mostly_idle_a_larger_pool_is_not_the_first_advice() -> None:
    given = advice(idle_share=0.8)
    assert given["text"].startswith("Shorten the holds first: when most were needed, 80% of those held ran no SQL.")
    assert "pool_size=6, max_overflow=3" in given["text"]


def test_a_pool_that_covers_what_is_needed_is_left_alone() -> None:
    given = advice(size=6, limit=16)
    assert given["action"] == "keep"
    assert given["text"] == "Fits: size 6 and limit 16 cover the 6 needed 99 % of the time and the peak of 9."


def test_an_unlimited_pool_needs_no_limit() -> None:
    assert advice(size=6, limit=None)["action"] == "keep"


def test_a_far_too_large_pool_may_shrink_after_ten_minutes_and_not_before() -> None:
    assert advice(size=30, limit=40, samples=ENOUGH_TO_LOWER)["action"] == "lower"
    assert advice(size=30, limit=40, samples=ENOUGH_TO_LOWER - 1)["action"] == "keep"


def test_without_enough_samples_or_traffic_there_is_no_advice() -> None:
    few = advice(samples=ENOUGH_SAMPLES - 1)
    none = advice(needed_p99=0, needed_peak=0)
    assert (few["action"], few["size"]) == ("wait", None)
    assert str(ENOUGH_SAMPLES) in few["text"]
    assert (none["action"], none["text"]) == ("wait", "No traffic yet to size the pool by.")


def test_a_pool_class_without_a_size_gets_no_advice() -> None:
    assert advice(pools_connections=False)["text"] == "This pool class has no size to choose."


def test_with_several_workers_the_advice_is_for_one_of_them() -> None:
    assert advice(workers=4)["arithmetic"].endswith("(per worker; the busiest of 4)")
