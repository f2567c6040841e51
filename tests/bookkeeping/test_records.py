"""The records by themselves: peaks of a window, and the times of a checkout."""

import math
from weakref import ref

import pytest
from sqlalchemy import QueuePool

from dbwatch.records import (
    PEAK_SLOT_SECONDS,
    PEAK_SLOTS,
    Changes,
    Checkout,
    Request,
    reserve_request_number,
    writable,
)
from tests.core.made import a_pool

NOW = 5000.0


def a_request() -> Request:
    return Request({"type": "http", "path": "/items", "root_path": "/api"}, "GET", None, 7, 1.0)


def test_a_new_pool_a_new_checkout_and_a_new_request_have_nothing_to_their_names() -> None:
    pool, request = a_pool(), a_request()
    checkout = Checkout(pool, request, 2.0)
    assert (pool.live, pool.out_before, pool.creator, pool.half_timeout, pool.server_asked) == (0, 0, 0, 15.0, False)
    assert a_pool(timeout=0.0).half_timeout == math.inf
    flags = (
        "slow",
        "overflow",
        "leaked",
        "reclaimed",
        "starved",
        "streaming",
        "on_loop",
        "interrupted",
    )
    assert not any(getattr(checkout, flag) for flag in flags)
    numbers = ("connected", "connection_id", "statements", "executing", "running_since", "also_running", "blocked")
    assert [getattr(checkout, number) for number in numbers] == [0] * len(numbers)
    assert checkout.session == 0
    marks = ("failed", "tried", "posted", "reported", "notable")
    assert not any(getattr(request, mark) for mark in marks)
    totals = ("checkouts", "checkout_seconds", "hold_seconds", "held_at_end", "wait", "executing", "statements")
    assert [getattr(request, total) for total in (*totals, "blocked", "gave_back_at")] == [0] * 9
    assert (request.path, request.root_path, request.thread, request.started_at) == ("/items", "/api", 7, 1.0)


def test_requests_are_numbered_from_before_to_after_a_reserved_number() -> None:
    before = a_request()
    reserved = reserve_request_number()
    after = a_request()
    assert before.number < reserved < after.number


def test_the_peak_is_the_most_of_the_last_two_minutes() -> None:
    pool = a_pool()
    assert pool.used_peak(NOW) == 0
    pool.note_used(3, NOW)
    pool.note_used(2, NOW + 1.0)
    assert (pool.peak, pool.used_peak(NOW + 1.0)) == (3, 3)
    pool.note_used(2, NOW + PEAK_SLOT_SECONDS)
    assert (pool.peak, pool.used_peak(NOW + PEAK_SLOT_SECONDS)) == (2, 3), "of this slot, and of all"
    window = PEAK_SLOTS * PEAK_SLOT_SECONDS
    assert pool.used_peak(NOW + window - 0.1) == 3
    assert pool.used_peak(NOW + window) == 2, "the slot of the first has left the window"
    assert pool.used_peak(NOW + window + PEAK_SLOT_SECONDS) == 0
    pool.open[Checkout(pool, None, NOW)] = None
    assert pool.used_peak(NOW + window + PEAK_SLOT_SECONDS) == 1, "what is out now counts"
    pool.note_used(1, NOW + window)
    assert pool.used_peak(NOW + window) == 2, "a slot that is used again has forgotten what it held"
    pool.note_used(0, NOW + 2 * window)
    assert pool.peak == 0
    pool.forget_peaks()
    assert (pool.peak, pool.peak_until, pool.used_peak(NOW + window)) == (0, 0.0, 1)


@pytest.mark.parametrize("now", [NOW, NOW + 0.01, NOW + PEAK_SLOT_SECONDS - 0.01])
def test_a_slot_lasts_until_the_next_multiple_of_its_length(now: float) -> None:
    pool = a_pool()
    pool.note_used(1, now)
    assert pool.peak_until == NOW + PEAK_SLOT_SECONDS


def test_the_times_of_a_checkout_run_until_it_is_had_and_those_of_a_hold_until_it_is_given_back() -> None:
    checkout = Checkout(a_pool(), None, 100.0)
    assert (checkout.checkout_seconds(102.0), checkout.hold_seconds(102.0)) == (2.0, 0.0)
    checkout.taken_at = 103.0
    assert (checkout.checkout_seconds(110.0), checkout.hold_seconds(110.0)) == (3.0, 7.0)
    checkout.returned_at = 105.0
    assert checkout.hold_seconds(110.0) == 2.0


def test_what_runs_now_counts_as_executing_up_to_now() -> None:
    checkout = Checkout(a_pool(), None, 100.0)
    checkout.executing, checkout.running_since = 2.0, 104.0
    assert (checkout.running, checkout.executing_seconds(107.0)) == (False, 2.0)
    checkout.running_what = object()
    assert (checkout.running, checkout.executing_seconds(107.0)) == (True, 5.0)


@pytest.mark.parametrize(
    ("ended_at", "returned_at", "outlived"),
    [(None, 5.0, False), (5.0, None, False), (5.0, 5.0, False), (5.0, 5.01, True), (5.0, 4.0, False)],
)
def test_a_hold_outlives_its_request_if_it_ends_after_it(
    ended_at: float | None, returned_at: float | None, outlived: bool
) -> None:
    request = a_request()
    checkout = Checkout(a_pool(), request, 1.0)
    request.ended_at, checkout.returned_at = ended_at, returned_at
    assert checkout.outlived(request) is outlived


def test_a_hold_is_open_as_long_as_its_proxy_has_the_pools_connection() -> None:
    class Connection:
        """All that a pool asks of a driver's connection here."""

        def rollback(self) -> None: ...

        def close(self) -> None: ...

    pool = QueuePool(Connection)  # type: ignore[arg-type]
    checkout = Checkout(a_pool(), None, 1.0)
    assert not checkout.is_open()
    proxies = [pool.connect() for _ in range(3)]
    checkout.proxy = ref(proxies[0])
    assert checkout.is_open()
    checkout.returned_at = 2.0
    assert not checkout.is_open()
    checkout.returned_at = None
    proxies[0].close()
    assert not checkout.is_open()
    checkout.proxy = ref(proxies[1])
    assert checkout.is_open()
    proxies[1].detach()
    assert not checkout.is_open()
    checkout.proxy = ref(proxies[2])
    proxies.pop().close()
    assert not checkout.is_open()


def test_the_end_of_a_transaction_forgets_its_changes_but_not_what_is_lost() -> None:
    changes = Changes()
    assert (changes.writes, changes.rolled_back, changes.lost, changes.autocommit) == (0, 0, 0, None)
    for name, value in {"writes": 2, "lost": 1, "rolled_back": 3, "autocommit": True, "savepoints": {"s": 1}}.items():
        setattr(changes, name, value)
    changes.begin_anew()
    assert (changes.writes, changes.savepoints, changes.autocommit) == (0, {}, None)
    assert (changes.rolled_back, changes.lost) == (3, 1)


@pytest.mark.parametrize(
    ("label", "written"), [("/items", "/items"), ("/größe", "/größe"), ("/\udcff", "/\\udcff"), ("", "")]
)
def test_half_a_surrogate_pair_is_escaped_and_nothing_else(label: str, written: str) -> None:
    assert writable(label) == written
