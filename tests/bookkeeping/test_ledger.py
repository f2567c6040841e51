"""The ledger by itself: what each fact adds to which series, and when a request's share is counted."""

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest

from dbwatch.catalog.metrics import ROUTE_EVENTS
from dbwatch.ledger import BATCH, ROUTE_LIMIT, Ledger
from dbwatch.records import LONG_REQUEST_SECONDS, NO_REQUEST, OTHER, UNMATCHED, Checkout, Request
from tests.core.made import a_pool, a_request

ROUTE = ("GET", "/items")


def served(request: Request | None, *, asked_at: float = 100.0, took: float = 0.5, **noted: Any) -> Checkout:
    """A checkout that was served, with whatever else was noted of it."""
    checkout = Checkout(a_pool(), request, asked_at)
    checkout.taken_at, checkout.outcome = asked_at + took, "ok"
    for name, value in noted.items():
        setattr(checkout, name, value)
    return checkout


def gave_back(checkout: Checkout, after: float, **noted: Any) -> Checkout:
    assert checkout.taken_at is not None
    checkout.returned_at = checkout.taken_at + after
    for name, value in noted.items():
        setattr(checkout, name, value)
    return checkout


class Books:
    """A ledger and what stands in it."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def of_route(self, route: tuple[str, str] = ROUTE) -> dict[str, float]:
        """The counters of a route, none of them if it has no series."""
        prefix, found = "dbwatch_request_", {}
        for name, family in self.ledger.accumulators.counters.items():
            if route in family and name.startswith((prefix, "dbwatch_event_loop")):
                found[name.removeprefix(prefix).removeprefix("dbwatch_")] = family[route].value
        return {name: value for name, value in found.items() if value}

    def counter(self, name: str, *labels: str) -> float:
        return self.ledger.accumulators.counter(name, *labels).value

    def sum_of(self, name: str, *labels: str) -> float:
        return self.ledger.accumulators.histogram(name, *labels).sum

    def end(self, request: Request) -> None:
        """The request ends and is folded in."""
        request.ended_at, request.reported = perf_counter(), True
        self.ledger.request_ended(request)


@pytest.fixture
def books() -> Books:
    return Books()


# A request's share


def test_what_a_request_did_is_counted_at_its_end(books: Books) -> None:
    request = a_request()
    first, second = served(request, took=0.5, wait=0.25, on_loop=True), served(request, took=1.5)
    assert books.ledger.attempt_ended(first) == 0.5
    assert books.ledger.attempt_ended(second) == 1.5
    assert books.ledger.hold_ended(gave_back(first, 2.0, executing=0.5, statements=3, blocked=0.125)) == 2.0
    assert books.ledger.hold_ended(gave_back(second, 4.0, executing=1.0, statements=2)) == 4.0
    assert books.of_route() == {}
    request.held_at_end = 8.0
    books.end(request)
    assert books.of_route() == {
        "checkouts_total": 2,
        "wait_seconds_total": 0.25,
        "executing_seconds_total": 1.5,
        "statements_total": 5,
        "event_loop_blocked_seconds_total": 0.625,
    }
    assert books.sum_of("dbwatch_request_checkout_seconds", *ROUTE) == 2.0
    assert books.sum_of("dbwatch_request_hold_seconds", *ROUTE) == 14.0
    assert books.sum_of("dbwatch_checkout_seconds", "shop", "ok") == 2.0
    assert books.sum_of("dbwatch_checkout_phase_seconds", "shop", "wait") == 0.25
    assert books.counter("dbwatch_hold_activity_seconds_total", "shop", "executing") == 1.5
    assert books.counter("dbwatch_hold_activity_seconds_total", "shop", "idle") == 4.5


def test_what_comes_after_the_end_is_counted_at_once_and_by_itself(books: Books) -> None:
    request = a_request()
    books.ledger.attempt_ended(served(request))
    books.end(request)
    counted = {"checkouts_total": 1.0}
    assert books.of_route() == counted
    late = served(request, took=0.5, wait=0.25, on_loop=True)
    books.ledger.attempt_ended(late)
    counted |= {"checkouts_total": 2, "wait_seconds_total": 0.25, "event_loop_blocked_seconds_total": 0.5}
    assert books.of_route() == counted
    books.ledger.attempt_ended(served(request))
    counted["checkouts_total"] = 3
    assert books.of_route() == counted
    books.ledger.hold_ended(gave_back(late, 2.0, executing=0.5, statements=3, blocked=0.25))
    counted |= {
        "executing_seconds_total": 0.5,
        "statements_total": 3,
        "event_loop_blocked_seconds_total": 0.75,
    }
    assert books.of_route() == counted
    books.ledger.hold_ended(gave_back(served(request), 1.0))
    assert books.of_route() == counted


def test_what_comes_while_the_end_is_on_its_way_is_counted_with_it(books: Books) -> None:
    request = a_request()
    request.ended_at, request.reported = perf_counter(), True
    late = served(request)
    books.ledger.attempt_ended(late)
    books.ledger.hold_ended(gave_back(late, 2.0, executing=0.5, statements=3))
    assert books.of_route() == {}
    books.ledger.request_ended(request)
    assert books.of_route() == {"checkouts_total": 1, "executing_seconds_total": 0.5, "statements_total": 3}


def test_a_request_that_runs_for_long_does_not_wait_for_its_end(books: Books) -> None:
    request = a_request(started_at=perf_counter() - LONG_REQUEST_SECONDS - 1.0)
    checkout = served(request, wait=0.25)
    books.ledger.attempt_ended(checkout)
    assert books.of_route() == {"checkouts_total": 1, "wait_seconds_total": 0.25}
    books.ledger.hold_ended(gave_back(checkout, 2.0, executing=0.5, statements=3))
    counted = {"checkouts_total": 1, "wait_seconds_total": 0.25, "executing_seconds_total": 0.5, "statements_total": 3}
    assert books.of_route() == counted
    books.end(request)
    assert books.of_route() == counted
    assert books.sum_of("dbwatch_request_hold_seconds", *ROUTE) == 2.0


def test_a_hold_of_a_long_request_is_what_makes_its_share_count_as_well(books: Books) -> None:
    request = a_request()
    checkout = served(request)
    books.ledger.attempt_ended(checkout)
    request.started_at -= LONG_REQUEST_SECONDS + 1.0
    assert books.of_route() == {}
    books.ledger.hold_ended(gave_back(checkout, 2.0, statements=3))
    assert books.of_route() == {"checkouts_total": 1, "statements_total": 3}


def test_a_request_that_ended_before_its_task_had_asked_is_counted_when_the_task_has_been_served(books: Books) -> None:
    request = a_request()
    request.ended_at = perf_counter()  # and was not reported: it had tried nothing by then
    books.ledger.attempt_ended(served(request))
    assert books.of_route() == {"checkouts_total": 1}


@pytest.mark.parametrize(("later", "seconds"), [(0.0, 2.0), (0.5, 0.0)])
def test_a_hold_that_outlives_its_request_is_no_hold_of_the_request(later: float, seconds: float, books: Books) -> None:
    request = a_request()
    checkout = gave_back(served(request), 2.0)
    assert checkout.returned_at is not None
    request.ended_at, request.reported = checkout.returned_at - later, True
    books.ledger.hold_ended(checkout)
    assert request.hold_seconds == seconds


# Whose series


def test_what_is_folded_into_other_stands_at_zero_from_the_beginning(books: Books) -> None:
    overflow = books.ledger.accumulators.counters["dbwatch_label_overflow_total"]
    assert {labels: cell.value for labels, cell in overflow.items()} == {("route",): 0, ("pool",): 0}


def test_so_many_routes_have_series_of_their_own_and_what_belongs_to_no_request_always(books: Books) -> None:
    for number in range(ROUTE_LIMIT):
        books.end(a_request(f"/{number}"))
    assert books.counter("dbwatch_label_overflow_total", "route") == 0
    assert len(books.ledger.routes()) == ROUTE_LIMIT
    assert books.ledger.route_labels(a_request("/more")) == (OTHER, OTHER)
    assert books.counter("dbwatch_label_overflow_total", "route") == 1
    assert books.ledger.route_labels(a_request("/0")) == ("GET", "/0")
    assert Ledger().route_labels(a_request("")) == ("GET", UNMATCHED)
    assert books.ledger.bound((NO_REQUEST, NO_REQUEST)) == (NO_REQUEST, NO_REQUEST)
    assert books.ledger.route_labels(None) == (NO_REQUEST, NO_REQUEST)
    assert books.counter("dbwatch_label_overflow_total", "route") == 1


def test_what_goes_wrong_is_an_event_of_the_route_once_that_is_known(books: Books) -> None:
    request = a_request()
    books.ledger.attempt_ended(served(request, overflow=True))
    timed_out = served(request)
    timed_out.outcome = "timeout"
    books.ledger.attempt_ended(timed_out)
    assert books.counter("dbwatch_overflow_checkouts_total", "shop") == 1
    assert books.counter("dbwatch_checkout_timeouts_total", "shop") == 1
    assert books.counter("dbwatch_route_events_total", "shop", *ROUTE, "overflow") == 0
    books.end(request)
    assert books.counter("dbwatch_route_events_total", "shop", *ROUTE, "overflow") == 1
    assert books.counter("dbwatch_route_events_total", "shop", *ROUTE, "timeout") == 1
    books.ledger.pre_ping_failed(served(request))
    books.ledger.pre_ping_failed(served(None))
    assert books.counter("dbwatch_route_events_total", "shop", *ROUTE, "pre_ping_failure") == 1
    assert books.counter("dbwatch_route_events_total", "shop", NO_REQUEST, NO_REQUEST, "pre_ping_failure") == 1


def test_connections_that_go_with_their_pool_are_closed_once(books: Books) -> None:
    pool, opened = a_pool(), served(None)
    opened.pool = pool
    for _ in range(3):
        books.ledger.connection_opened(opened)
    books.ledger.connection_closed((pool, "recycle"))
    books.ledger.forget_pool(pool)
    books.ledger.forget_pool(pool)
    assert books.counter("dbwatch_connections_opened_total", "shop") == 3
    assert books.counter("dbwatch_connections_closed_total", "shop", "recycle") == 1
    assert books.counter("dbwatch_connections_closed_total", "shop", "gc") == 2
    assert pool.live == 0
    books.ledger.connection_opened(opened)
    books.ledger.forget_pool(pool)
    assert books.counter("dbwatch_connections_closed_total", "shop", "gc") == 3


def test_of_a_hold_in_which_nobody_knows_what_ran_the_rest_is_unknown_and_not_idle(books: Books) -> None:
    for noted in ({"streaming": True, "statements": 1}, {"interrupted": True, "statements": 1}, {"statements": 0}):
        books.ledger.hold_ended(gave_back(served(None), 2.0, executing=0.5, **noted))
    books.ledger.hold_ended(gave_back(served(None), 1.0, executing=9.0, statements=1))  # a COMMIT ran beyond the return
    activity = "dbwatch_hold_activity_seconds_total"
    assert [books.counter(activity, "shop", what) for what in ("executing", "idle", "unknown")] == [2.5, 0.0, 4.5]
    assert math.isclose(books.sum_of("dbwatch_hold_seconds", "shop"), 7.0)


def test_a_timeout_an_overflow_a_failed_ping_and_a_leak_count_once_for_their_pool_and_their_route(books: Books) -> None:
    request = a_request()
    for noted in ({}, {"overflow": True}, {"outcome": "timeout"}):
        books.ledger.attempt_ended(served(request, **noted))
    books.ledger.pre_ping_failed(served(request))
    books.ledger.leaked(served(request))
    books.end(request)
    events = [books.counter("dbwatch_route_events_total", "shop", *ROUTE, event) for event in ROUTE_EVENTS]
    assert events == [1] * len(ROUTE_EVENTS)
    of_pool = ("dbwatch_overflow_checkouts_total", "dbwatch_checkout_timeouts_total", "dbwatch_pre_ping_failures_total")
    assert [books.counter(name, "shop") for name in of_pool] == [1, 1, 1]
    assert books.counter("dbwatch_leaks_total", "shop", "request_end") == 1
    assert books.counter("dbwatch_leaks_total", "shop", "gc") == 0


def test_a_leak_that_comes_back_is_no_second_leak(books: Books) -> None:
    leaked, reclaimed, shared = (gave_back(served(None), 1.0, reclaimed=True) for _ in range(3))
    leaked.leaked = shared.pool.shared = True
    for checkout in (leaked, reclaimed, shared):
        books.ledger.hold_ended(checkout)
    assert books.counter("dbwatch_leaks_returned_total", "shop") == 1
    assert books.counter("dbwatch_leaks_total", "shop", "gc") == 1


# Folding


def test_facts_wait_until_there_are_enough_of_them(books: Books) -> None:
    folded = list[int]()
    for number in range(BATCH - 1):
        books.ledger.post(folded.append, number)
    books.ledger.fold_if_due()
    assert folded == []
    books.ledger.post(folded.append, BATCH - 1)
    books.ledger.fold_if_due()
    assert folded == list(range(BATCH))


def test_what_is_to_be_started_is_started_once(books: Books) -> None:
    started = list[str]()
    books.ledger.at_first_checkout(lambda: started.append("first"))
    books.ledger.at_first_checkout(lambda: started.append("second"))
    books.ledger.fold_if_due()
    books.ledger.fold_if_due()
    assert sorted(started) == ["first", "second"]
    books.ledger.start_anew()  # as in a forked child
    books.ledger.fold_if_due()
    assert sorted(started) == ["first", "first", "second", "second"]


@pytest.mark.parametrize("again", [Ledger.fold, Ledger.try_fold])
def test_a_fact_that_leads_to_another_fold_is_added_up_before_the_next(
    again: Callable[[Ledger], None], books: Books
) -> None:
    seen = list[str]()

    def leads_on(_fact: object) -> None:
        seen.append("began")
        books.ledger.post(seen.append, "posted meanwhile")
        again(books.ledger)
        seen.append("ended")

    books.ledger.post(leads_on, None)
    books.ledger.post(seen.append, "next")
    books.ledger.fold()
    assert seen == ["began", "ended", "next", "posted meanwhile"]


class Witness:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def attempt_ended(self, checkout: Checkout) -> None:
        self.heard.append(("attempt", checkout))

    def hold_ended(self, checkout: Checkout) -> None:
        self.heard.append(("hold", checkout))

    def request_ended(self, request: Request, labels: tuple[str, str]) -> None:
        self.heard.append(("request", request, labels))


def test_an_observer_hears_of_each_attempt_hold_and_request(books: Books) -> None:
    witness, request = Witness(), a_request()
    books.ledger.observers = (witness,)
    checkout = served(request)
    books.ledger.attempt_ended(checkout)
    books.ledger.hold_ended(gave_back(checkout, 1.0))
    books.end(request)
    assert witness.heard == [("attempt", checkout), ("hold", checkout), ("request", request, ROUTE)]
