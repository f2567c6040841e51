import pytest

from tests.servers.waiting import eventually


def test_the_first_true_result_is_returned() -> None:
    results = iter([0, "", "yes", "more"])
    assert eventually(lambda: next(results), every=0) == "yes"


def test_a_failed_assertion_means_not_yet() -> None:
    counts = iter(range(10))

    def enough() -> bool:
        count = next(counts)
        assert count >= 3, f"only {count}"
        return True

    assert eventually(enough, every=0)
    assert next(counts) == 4


def test_giving_up_tells_what_was_still_wrong() -> None:
    def never() -> bool:
        apples = 2
        assert apples == 3, "two apples"
        return True

    with pytest.raises(TimeoutError, match="two apples"):
        eventually(never, timeout=0.05)
