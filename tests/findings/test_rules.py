"""The rules by themselves: which facts make a finding, on either side of each threshold, and in which words."""

import logging
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy.exc import InvalidRequestError

from dbwatch import judgement
from dbwatch.callsites import LIMIT, describe
from dbwatch.facts import Finding
from dbwatch.findings import FOUND
from dbwatch.idling import WATCH
from dbwatch.ledger import LEDGER
from dbwatch.records import LONG_REQUEST_SECONDS, Changes, Checkout, Idling, Request, Site
from dbwatch.settings import THRESHOLDS
from tests.core.made import a_pool

THRESHOLD = 1.0


def here() -> Site:
    """A line of this file."""
    code = here.__code__
    return ((code, code.co_firstlineno),)


def elsewhere(line: int = 1) -> Site:
    return ((elsewhere.__code__, elsewhere.__code__.co_firstlineno + line),)


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Known thresholds, and nobody who looks: what a hold was seen to do is what the test says."""
    monkeypatch.setattr(THRESHOLDS, "idle_hold_seconds", THRESHOLD)
    monkeypatch.setattr(THRESHOLDS, "slow_checkout_seconds", 0.25)
    monkeypatch.setattr(WATCH, "idle_at_most", _as_seen)
    FOUND.clear()
    yield
    LEDGER.fold()
    FOUND.clear()


def _as_seen(checkout: Checkout) -> float:
    return 1000.0 if checkout.idling is None else checkout.idling.seen


def a_request(**noted: Any) -> Request:
    request = Request({"type": "http", "path": "/"}, "GET", None, 0, perf_counter())
    request.route, request.status = "/items", 200
    for name, value in noted.items():
        setattr(request, name, value)
    return request


def a_hold(request: Request | None, seconds: float, executing: float = 0.0, **noted: Any) -> Checkout:
    """A connection that was given back after so many seconds, in some of which SQL ran."""
    checkout = Checkout(a_pool(timeout=1.0), request, 100.0)
    checkout.taken_at, checkout.returned_at, checkout.outcome = 100.0, 100.0 + seconds, "ok"
    checkout.statements, checkout.executing, checkout.site = 2, executing, here()
    for name, value in noted.items():
        setattr(checkout, name, value)
    return checkout


def found() -> list[str]:
    return [finding.finding for finding in FOUND.recent()]


def the_finding() -> Finding:
    (finding,) = FOUND.recent()
    return finding


# Slow checkouts


def slow(seconds: float, **phases: float) -> Checkout:
    checkout = a_hold(None, 1.0, slow=True, **phases)
    checkout.asked_at = 100.0 - seconds
    return checkout


def test_a_slow_checkout_says_in_which_phases_its_time_went() -> None:
    judgement.attempt_ended(slow(1.0, wait=0.625, connect=0.125))
    assert the_finding().message == "The checkout took 1.00 s (0.62 s wait, 0.12 s connect); the threshold is 0.25 s."
    assert the_finding().numbers == {
        "checkout_seconds": 1.0,
        "wait_seconds": 0.625,
        "connect_seconds": 0.125,
        "ping_seconds": 0.0,
    }


@pytest.mark.parametrize(("wait", "said"), [(0.5, True), (0.4, True), (0.51, False)])
def test_what_no_phase_explains_is_said_if_it_is_half_of_the_time(wait: float, said: bool) -> None:
    judgement.attempt_ended(slow(1.0, wait=wait))
    assert ("in none of these" in the_finding().message) is said


def test_half_of_a_short_timeout_is_the_threshold_that_is_named() -> None:
    checkout = slow(0.5, wait=0.5)
    checkout.pool.half_timeout = 0.125
    judgement.attempt_ended(checkout)
    assert the_finding().message.endswith("the threshold is 0.125 s.")


def test_a_checkout_that_is_not_slow_is_no_finding_and_an_engine_is_its_makers_until_somebody_else_asks() -> None:
    request = a_request()
    mine, others, nobodys = a_hold(request, 1.0), a_hold(a_request(), 1.0), a_hold(None, 1.0)
    for checkout in (mine, others, nobodys):
        checkout.pool.creator = request.number
        judgement.attempt_ended(checkout)
    assert [checkout.pool.creator for checkout in (mine, others, nobodys)] == [request.number, 0, 0]
    assert found() == []


# Idle holds


@pytest.mark.parametrize(
    ("seconds", "executing", "accused"),
    [
        (THRESHOLD, 0.0, True),
        (THRESHOLD - 0.01, 0.0, False),
        (2 * THRESHOLD, THRESHOLD, True),
        (2 * THRESHOLD, THRESHOLD + 0.01, False),
        (4 * THRESHOLD, 2 * THRESHOLD, True),
        (4 * THRESHOLD, 2 * THRESHOLD + 0.01, False),
    ],
)
def test_a_hold_is_idle_if_nothing_ran_for_the_threshold_and_for_half_of_it(
    seconds: float, executing: float, accused: bool
) -> None:
    judgement.hold_ended(a_hold(a_request(), seconds, executing))
    assert found() == (["idle_hold"] if accused else [])


@pytest.mark.parametrize(
    "noted",
    [
        {"streaming": True},
        {"interrupted": True},
        {"statements": 0},
        {"running_what": object()},
    ],
)
def test_a_hold_of_which_it_is_not_known_or_known_already_is_not_reported(noted: dict[str, Any]) -> None:
    judgement.judge_idle(a_hold(a_request(), 5.0, **noted), 5.0)
    assert found() == []


def test_a_hold_that_nobody_looked_at_is_reported_once() -> None:
    hold = a_hold(a_request(), 5.0)
    for _ in range(2):
        judgement.judge_idle(hold, 5.0)
    assert found() == ["idle_hold"]


def test_a_hold_without_a_request_is_not_judged_at_its_end() -> None:
    judgement.hold_ended(a_hold(None, 5.0))
    assert found() == []


def test_what_the_looks_have_excused_or_not_seen_is_not_idle() -> None:
    excused, unseen, seen = Idling(), Idling(), Idling()
    excused.excused, excused.seen = 4.01, 1000.0
    unseen.seen = THRESHOLD - 0.01
    seen.seen, seen.site = THRESHOLD, elsewhere()
    judgement.judge_idle(a_hold(a_request(), 5.0, idling=excused), 5.0)
    judgement.judge_idle(a_hold(a_request(), 5.0, idling=unseen), 5.0)
    assert found() == []
    judgement.judge_idle(a_hold(a_request(), 5.0, 0.5, idling=seen), 5.0)
    assert the_finding().message == (
        f"The connection was held for 5.00 s, 4.50 s of it idle, seen at {describe(elsewhere())[0]}; "
        "2 statements ran 0.50 s."
    )
    assert the_finding().lines == describe((*here(), *elsewhere()))
    assert the_finding().numbers == {
        "held_seconds": 5.0,
        "idle_seconds": 4.5,
        "executing_seconds": 0.5,
        "after_response_seconds": 0.0,
    }


@pytest.mark.parametrize(
    ("response_after", "said"), [(4.0, "1.00 s"), (4.95, ""), (4.89, "0.11 s"), (6.0, ""), (-1.0, "5.00 s")]
)
def test_how_long_a_hold_outlasted_the_start_of_the_response_is_said_from_a_tenth_of_a_second_on(
    response_after: float, said: str
) -> None:
    judgement.judge_idle(a_hold(a_request(response_started_at=100.0 + response_after), 5.0), 5.0)
    assert ("after the response had started" in the_finding().message) is bool(said)
    assert f", {said} of it after the response" in the_finding().message or not said
    assert 0.0 <= the_finding().numbers["after_response_seconds"] <= 5.0


def test_of_holds_that_are_open_those_of_long_requests_alone_are_judged_and_each_once() -> None:
    long, short = a_request(), a_request()
    long.started_at -= LONG_REQUEST_SECONDS + 1.0
    holds = [a_hold(request, 5.0, returned_at=None, taken_at=perf_counter() - 5.0) for request in (None, short, long)]
    leaked = a_hold(long, 5.0, returned_at=None, taken_at=perf_counter() - 5.0, leaked=True)
    pool = holds[0].pool
    for hold in (*holds, leaked):
        pool.open[hold] = None
    judgement.judge_open(pool)
    judgement.judge_open(pool)
    assert found() == ["idle_hold"]
    assert the_finding().request == long.number


# Leaks


def test_a_leak_says_since_when_with_how_many_statements_and_where_its_session_was_made() -> None:
    now = perf_counter()
    checkout = a_hold(a_request(), 0.0, taken_at=now - 5.0, returned_at=None, statements=1, made_at=elsewhere())
    judgement.leaked(checkout)
    assert the_finding().message == (
        "The request has ended and its connection is still out, after 5.00 s and 1 statement. "
        f"The session was made at {describe(elsewhere())[0]}."
    )
    assert the_finding().lines == describe((*here(), *elsewhere()))
    assert the_finding().numbers["statements"] == 1
    assert FOUND.returned() == ()
    checkout.returned_at, checkout.leaked = now, True
    judgement.hold_ended(checkout)
    assert FOUND.returned() == FOUND.recent()


@pytest.mark.parametrize(("reclaimed", "how"), [(False, "given back"), (True, "reclaimed by the garbage collector")])
def test_the_return_of_a_leak_is_logged(reclaimed: bool, how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dbwatch")
    judgement.hold_ended(a_hold(a_request(), 2.5, leaked=True, reclaimed=reclaimed))
    judgement.hold_ended(a_hold(None, 2.5, leaked=True, reclaimed=reclaimed))
    LEDGER.fold()
    assert [record.getMessage() for record in caplog.records] == [
        f"A connection of pool shop that was reported as leaked by {who} has been {how} after 2.50 s."
        for who in ("/items", "(none)")
    ]
    assert found() == []


def test_what_the_garbage_collector_gave_back_is_a_leak_of_its_request_or_of_the_one_that_spawned_it() -> None:
    mine, spawners, nobodys = a_request(), a_request(), a_hold(None, 2.0, reclaimed=True)
    shared = a_hold(None, 2.0, reclaimed=True)
    shared.pool.shared = True
    judgement.hold_ended(a_hold(mine, 2.0, reclaimed=True, made_at=elsewhere()))
    judgement.hold_ended(a_hold(None, 2.0, reclaimed=True, spawner=spawners))
    judgement.hold_ended(nobodys)
    judgement.hold_ended(shared)
    assert [finding.request for finding in FOUND.recent()] == [mine.number, spawners.number, 0]
    message = "Nobody gave the connection back; the garbage collector did, after 2.00 s."
    made = f" The session was made at {describe(elsewhere())[0]}."
    assert [finding.message for finding in FOUND.recent()] == [message + made, message, message]
    assert FOUND.recent()[0].numbers == {"held_seconds": 2.0, "statements": 2}


# Lost writes, and what is told at the end of a request


def lost(request: Request, statements: int = 1, *, outlived: bool = False) -> None:
    changes = Changes()
    changes.lost, changes.site = statements, elsewhere()
    checkout = a_hold(request, 0.5, changes=changes)
    request.ended_at = 100.0 if outlived else None
    judgement.hold_ended(checkout)
    judgement.request_ended(request)


@pytest.mark.parametrize(
    ("status", "failed", "accused"), [(200, False, True), (399, False, True), (400, False, False), (None, False, False)]
)
def test_rows_are_lost_if_the_client_was_told_that_all_went_well(
    status: int | None, failed: bool, accused: bool
) -> None:
    lost(a_request(status=status, failed=failed))
    assert found() == (["lost_write"] if accused else [])


def test_rows_are_not_lost_in_a_request_that_failed_nor_in_a_hold_that_outlived_it() -> None:
    lost(a_request(failed=True))
    lost(a_request(), outlived=True)
    lost(a_request(), statements=0)
    assert found() == []


def test_a_lost_write_says_how_many_statements_at_the_line_of_the_first_and_how_often() -> None:
    lost(a_request(), 1)
    request = a_request()
    for _ in range(2):
        changes = Changes()
        changes.lost = 3
        judgement.hold_ended(a_hold(request, 0.5, changes=changes))
    judgement.request_ended(request)
    first, second = FOUND.recent()
    assert first.message == "1 statement changed rows and the connection went back without a commit."
    assert first.lines == describe(elsewhere())
    assert second.message == (
        "3 statements changed rows and the connection went back without a commit. (2 times in this request)"
    )
    assert second.lines == describe(here())
    assert second.numbers == {"statements": 3, "count": 2}


@pytest.mark.parametrize(("blocked", "accused"), [(0.25, True), (0.0, False)])
def test_a_loop_that_was_blocked_is_reported_once_where_it_was_first(blocked: float, accused: bool) -> None:
    request = a_request(blocked=blocked, blocked_at=("shop", here()))
    judgement.request_ended(request)
    judgement.request_ended(request)
    assert found() == (["blocked_event_loop"] if accused else [])
    if accused:
        assert the_finding().message == "The event loop stood still for 0.2500 s in this request, first here."
        assert the_finding().numbers == {"blocked_seconds": 0.25}


def test_a_long_request_tells_what_has_been_proven_before_its_end_and_not_again() -> None:
    long = a_request()
    judgement.accuse(long, "shared_session", "shop", here(), "Shared.")
    judgement.hold_ended(a_hold(long, 0.1))
    assert found() == []
    long.started_at -= LONG_REQUEST_SECONDS + 1.0
    judgement.hold_ended(a_hold(long, 0.1))
    assert found() == ["shared_session"]
    judgement.request_ended(long)
    assert found() == ["shared_session"]


def test_what_a_later_write_refutes_hides_nothing_that_comes_after_it() -> None:
    request = a_request()
    judgement.never_sent(request, "shop", here(), [request], told=True)
    judgement.accuse(request, "nested_checkout", "shop", here(), "Nested.")
    request.writes += 1
    assert [finding for finding, _proof in judgement.proven(request)] == ["nested_checkout"]


def test_a_lost_write_of_a_failure_hides_nothing_that_comes_after_it() -> None:
    request = a_request(status=400)
    judgement.accuse(request, "lost_write", "shop", here(), "Lost.")
    judgement.accuse(request, "nested_checkout", "shop", here(), "Nested.")
    assert [finding for finding, _proof in judgement.proven(request)] == ["nested_checkout"]


def test_a_request_that_tried_nothing_is_no_request_of_the_metrics() -> None:
    request = a_request(tried=False)
    judgement.request_ended(request)
    assert LEDGER.routes() == []
    request.tried = True
    judgement.request_ended(request)
    assert LEDGER.routes() == [("GET", "/items")]


# Accusations


def test_one_mistake_at_one_line_is_told_once_with_what_was_first_said_of_it() -> None:
    request = a_request()
    one = judgement.accuse(request, "shared_session", "shop", here(), "First.", number=1)
    assert judgement.accuse(request, "shared_session", "shop", here(), "Second.", number=2) is one
    assert judgement.accuse(request, "shared_session", "shop", elsewhere(), "Elsewhere.") is not one
    assert (one.count, one.detail, one.numbers) == (2, "First.", {"number": 1})
    assert request.notable


def test_who_shares_a_connection_is_told_with_whether_a_request_had_taken_it() -> None:
    request = a_request()
    judgement.shared(request, a_hold(request, 0.1, made_at=elsewhere()), here(), "Shared.")
    judgement.shared(request, a_hold(None, 0.1), elsewhere(2), "Lent.")
    judgement.request_ended(request)
    shared, lent = FOUND.recent()
    assert (shared.numbers["taken_by_request"], lent.numbers["taken_by_request"]) == (1.0, 0.0)
    assert shared.message == f"Shared. The session was made at {describe(elsewhere())[0]}."
    assert (shared.lines, lent.message) == (describe((*here(), *elsewhere())), "Lent.")


REFUSAL = "This session is provisioning a new connection; concurrent operations are not permitted"


def test_of_a_chain_of_refusals_the_first_is_told() -> None:
    first, second = InvalidRequestError(f"{REFUSAL} (first)"), InvalidRequestError(f"{REFUSAL} (second)")
    second.__context__ = first
    request = a_request()
    judgement.refused_concurrency(request, second)
    judgement.request_ended(request)
    assert the_finding().message == f"SQLAlchemy refused it: {REFUSAL} (first)"
    assert (the_finding().finding, the_finding().pool) == ("shared_session", "(unknown)")


def test_what_is_no_refusal_of_concurrency_is_no_finding_and_a_chain_without_end_has_one() -> None:
    request, other = a_request(), InvalidRequestError("Object is already attached to session")
    judgement.refused_concurrency(request, other)
    other.__cause__ = other
    judgement.refused_concurrency(request, other)
    other.__cause__ = ValueError(REFUSAL)
    judgement.refused_concurrency(request, other)
    assert request.evidence is None
    other.code = "isce"
    judgement.refused_concurrency(request, other)
    assert request.evidence is not None


@pytest.mark.parametrize(("links", "known"), [(19, True), (20, False)])
def test_a_refusal_is_looked_for_among_twenty_errors_that_led_to_the_last(links: int, known: bool) -> None:
    error: Exception = InvalidRequestError(REFUSAL)
    for _ in range(links):
        later = InvalidRequestError("Object is already attached to session")
        later.__context__ = error
        error = later
    request = a_request()
    assert isinstance(error, InvalidRequestError)
    judgement.refused_concurrency(request, error)
    assert bool(request.evidence) is known


def test_the_lines_of_a_refusal_are_the_apps_innermost_first_and_not_more_than_of_a_checkout() -> None:
    def refuse(depth: int) -> None:
        if depth:
            refuse(depth - 1)
        raise InvalidRequestError(REFUSAL)

    request = a_request()
    with pytest.raises(InvalidRequestError) as caught:
        refuse(LIMIT + 1)
    judgement.refused_concurrency(request, caught.value)
    ((_, site),) = request.evidence or {}
    assert [code.co_name for code, _line in site] == ["refuse"]
    (proof,) = (request.evidence or {}).values()
    assert [code.co_name for code, _line in proof.site] == ["refuse"] * LIMIT
    raising, calling = proof.site[0][1], proof.site[1][1]
    assert raising == calling + 1


def test_the_line_of_a_session_is_the_last_of_so_many_and_stands_there_once() -> None:
    site = tuple(elsewhere(number)[0] for number in range(LIMIT))
    assert judgement._with_last(site, ()) == site
    assert judgement._with_last(site, here()) == (*site[:-1], here()[0])
    assert judgement._with_last(site, site[1:2]) == site
    # Of the others it is the first, be the last of them there already or not.
    assert judgement._with_last(site[:1], (here()[0], site[0])) == (site[0], here()[0])
    assert judgement._with_last(site[:1], (here()[0], site[1])) == (site[0], here()[0])
    assert judgement._with_last(site[:1], (site[0], here()[0])) == site[:1]


def test_a_stale_connection_and_an_engine_made_again_are_told_with_their_numbers() -> None:
    request = a_request()
    judgement.stale(a_hold(request, 0.1), here(), "OperationalError")
    judgement.stale(a_hold(None, 0.1), here(), "OperationalError")
    judgement.engine_again(request, "shop", here(), 3)
    judgement.repeated(request, a_hold(request, 0.1), "SELECT  1", here(), 10)
    judgement.request_ended(request)
    assert [(finding.finding, finding.message) for finding in FOUND.recent()] == [
        (
            "stale_connection",
            "The first statement on a connection from the pool failed with OperationalError; pool_pre_ping is off.",
        ),
        ("engine_per_request", "This line has created 3 engines for the same URL so far."),
        ("repeated_statement", "This SELECT ran 10 times or more in a row: SELECT 1"),
    ]
    assert FOUND.recent()[1].numbers == {"engines": 3, "count": 1}
    assert FOUND.recent()[2].numbers == {"times": 10, "count": 1}
