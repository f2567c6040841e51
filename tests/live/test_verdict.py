import pytest

from dbwatch.outputs.live.verdict import Recent, judge, overall, seconds, worst
from tests.live.facts import gauges, rows


def test_waiting_requests_are_told_with_the_oldest_and_with_who_is_in_the_way() -> None:
    now = gauges(used=15, waiters=2, oldest_waiter_seconds=1.4)
    verdict = judge(now, [*rows(12, "idle"), *rows(3, "executing", "/search")], Recent())
    assert verdict == {
        "level": "critical",
        "text": "2 requests waiting, oldest 1.4 s: pool of 15 fully held, 12 of 15 idle in GET /reports.",
    }


def test_where_no_route_stands_out_the_states_of_the_holders_are_counted() -> None:
    held = [row for number in range(5) for row in rows(2, "executing", f"/{number}")]
    verdict = judge(gauges(used=15, waiters=1, oldest_waiter_seconds=2.0), [*held, *rows(5, "idle", "/a")], Recent())
    assert verdict["text"].endswith("fully held, 10 executing, 5 idle.")


def test_a_wait_of_a_moment_is_the_jostling_of_a_busy_pool_and_no_alarm() -> None:
    assert judge(gauges(used=3, waiters=1, oldest_waiter_seconds=0.02), [], Recent())["level"] == "ok"


def test_timeouts_of_the_last_minute_stay_critical_when_nobody_waits_any_more() -> None:
    verdict = judge(gauges(used=2), rows(2, "idle"), Recent(timeouts=3))
    assert verdict["level"] == "critical"
    assert verdict["text"].startswith("3 checkouts gave up waiting in the last minute; now 2 of 15 held")


@pytest.mark.parametrize(("leaked", "level"), [(1, "warning"), (7, "warning"), (8, "critical")])
def test_leaks_are_a_warning_until_they_have_half_of_the_pool(leaked: int, level: str) -> None:
    verdict = judge(gauges(used=9, leaked=leaked), rows(leaked, "leaked", "/invoices/{id}"), Recent())
    assert verdict["level"] == level
    assert verdict["text"].startswith(f"{leaked} of 15 connections leaked by GET /invoices/{{id}}: nobody will give")


def test_a_full_pool_without_waiters_says_that_the_next_request_waits() -> None:
    verdict = judge(gauges(used=15), rows(15, "executing"), Recent())
    assert (verdict["level"], verdict["text"].split(":")[0]) == ("warning", "Nothing left")


def test_a_pool_that_is_nearly_all_held_for_long_says_how_little_is_left() -> None:
    held = [*rows(12, "idle", age=5.0), *rows(2, "executing", "/search", age=0.01)]
    verdict = judge(gauges(used=14), held, Recent())
    assert verdict == {
        "level": "warning",
        "text": "Little left: 14 of 15 held, 12 of them for more than 5 s, 12 of 14 idle in GET /reports.",
    }


def test_a_pool_that_is_nearly_all_held_by_quick_holders_is_healthy() -> None:
    assert judge(gauges(used=14), rows(14, "executing", age=4.9), Recent())["level"] == "ok"
    assert judge(gauges(used=14), [*rows(11, "idle", age=60.0), *rows(3, "idle", age=0.1)], Recent())["level"] == "ok"


def test_slow_checkouts_name_the_phase_that_takes_the_time() -> None:
    recent = Recent(checkouts=100, checkout_p95=0.4, largest_phase="connect")
    verdict = judge(gauges(used=1), rows(1, "idle"), recent)
    assert verdict["text"].startswith("Getting a connection is slow: p95 0.4 s in the last minute, most of it opening")


def test_the_first_checkouts_of_a_cold_pool_are_no_alarm() -> None:
    recent = Recent(checkouts=3, checkout_p95=0.4, largest_phase="connect")
    assert judge(gauges(used=1), rows(1, "idle"), recent)["level"] == "ok"


def test_overflow_that_never_ends_is_a_warning() -> None:
    verdict = judge(gauges(used=7, overflow=2), rows(7, "executing"), Recent(least_overflow=1))
    assert verdict["level"] == "warning"
    assert "above the size of 5" in verdict["text"]


def test_a_pool_without_a_limit_is_never_called_full() -> None:
    verdict = judge(gauges(used=400, limit=None), rows(3, "executing"), Recent())
    assert verdict == {"level": "ok", "text": "Healthy: 400 connections used, nobody waiting."}


def test_an_unused_pool_is_healthy() -> None:
    assert judge(gauges(), [], Recent())["text"] == "Healthy: no connection in use, nobody waiting."


def test_the_worst_of_several_verdicts_decides() -> None:
    good = judge(gauges(), [], Recent())
    bad = judge(gauges(used=15, waiters=1, oldest_waiter_seconds=9.0), rows(15, "idle"), Recent())
    assert worst([good, bad, good]) is bad
    assert overall([("reader", good), ("writer", bad)]) == {"level": "critical", "text": "writer in trouble"}
    assert overall([("reader", good), ("writer", good)])["text"] == "All 2 pools healthy"
    assert overall([])["level"] == "ok"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0004, "0.4 ms"), (0.0123, "12 ms"), (0.0996, "0.1 s"), (1.44, "1.4 s"), (9.96, "10 s"), (95.2, "95 s")],
)
def test_durations_are_written_for_people(value: float, text: str) -> None:
    assert seconds(value) == text
