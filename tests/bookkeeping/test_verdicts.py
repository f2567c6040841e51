"""The report of a timeout by itself: which verdict the holders lead to, and how it reads."""

import pytest

from dbwatch.facts import Holder
from dbwatch.holders import IDLE_SECONDS
from dbwatch.records import NO_REQUEST, Checkout
from dbwatch.timeout_report import LISTED, TimeoutReport, Verdict, judge
from tests.core.made import a_pool

NOW, WAITED = 1000.0, 4.0


def holder(
    age: float,
    executing: float = 0.0,
    *,
    statements: int = 1,
    streaming: bool = False,
    leaked: bool = False,
    runs: bool = False,
    starved: bool = False,
) -> Checkout:
    """Somebody who has had a connection for ``age`` seconds, and ran SQL for some of them."""
    checkout = Checkout(a_pool(timeout=WAITED), None, NOW - age)
    checkout.taken_at, checkout.statements, checkout.streaming, checkout.leaked = (
        NOW - age,
        statements,
        streaming,
        leaked,
    )
    checkout.starved = starved
    if runs:
        checkout.running_what, checkout.running_since = object(), NOW - executing
    else:
        checkout.executing = executing
    return checkout


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        # As old as half of the wait: it kept its connection from somebody.
        (holder(WAITED / 2, 0.0), "idle_holds"),
        (holder(WAITED / 2, WAITED / 2), "long_transactions"),
        (holder(WAITED, WAITED / 2), "long_transactions"),
        (holder(WAITED, WAITED, runs=True, starved=True), "long_transactions"),
        (holder(WAITED, starved=True), "nested"),
        (holder(WAITED, 0.01, runs=True, starved=True), "nested"),
        (holder(WAITED, WAITED / 2, runs=True), "long_transactions"),
        (holder(WAITED, WAITED / 2 - 0.01), "idle_holds"),
        (holder(WAITED * 0.75, WAITED * 0.75), "long_transactions"),
        (holder(WAITED, 0.0, streaming=True), "long_transactions"),
        (holder(WAITED, 0.0, statements=0), "idle_holds"),
        # Younger: it came and will go.
        (holder(WAITED / 2 - 0.01, 1.9), "too_small"),
        (holder(WAITED / 2 - 0.01, 0.99), "idle_holds"),
        (holder(WAITED / 4, WAITED / 8), "idle_holds"),
        (holder(WAITED / 2 - 0.01, 1.01), "too_small"),
        (holder(WAITED / 2 - 0.01, 0.0, streaming=True), "too_small"),
        (holder(WAITED / 2 - 0.01, 0.0, statements=0), "too_small"),
        (holder(IDLE_SECONDS, 0.0), "idle_holds"),
        (holder(IDLE_SECONDS * 0.9, 0.0), "too_small"),
        (holder(0.01, leaked=True), "leak"),
    ],
)
def test_a_holder_leads_to_the_verdict_that_its_hold_deserves(one: Checkout, verdict: Verdict) -> None:
    assert judge([one], WAITED, NOW, 0) == verdict


def test_the_majority_decides_and_of_equally_many_what_a_larger_pool_would_help_least() -> None:
    idle, busy, small, leak = holder(WAITED), holder(WAITED, WAITED), holder(0.0), holder(WAITED, leaked=True)
    assert judge([idle, busy, busy], WAITED, NOW, 0) == "long_transactions"
    assert judge([small, small, leak], WAITED, NOW, 0) == "too_small"
    assert judge([busy, idle], WAITED, NOW, 0) == "idle_holds"
    assert judge([small, busy], WAITED, NOW, 0) == "long_transactions"
    assert judge([idle, leak, small], WAITED, NOW, 0) == "leak"
    assert judge([], WAITED, NOW, 0) == "too_small"


def test_connections_that_came_back_just_now_were_no_long_transactions() -> None:
    idle, busy, leak = holder(WAITED), holder(WAITED, WAITED), holder(WAITED, leaked=True)
    assert judge([busy, busy], WAITED, NOW, 2) == "long_transactions"
    assert judge([busy, busy], WAITED, NOW, 3) == "too_small"
    assert judge([idle, busy, busy], WAITED, NOW, 3) == "too_small"
    assert judge([leak], WAITED, NOW, 3) == "leak"
    assert judge([idle], WAITED, NOW, 3) == "idle_holds"
    assert judge([holder(WAITED, starved=True)], WAITED, NOW, 3) == "nested"


def report(*holders: Holder, used: int = 3, left_out: int = 0) -> TimeoutReport:
    return TimeoutReport(
        pool="shop",
        request=None,
        site=(),
        waited_seconds=1.5,
        timeout_seconds=1.5,
        used=used,
        idle=1,
        size=2,
        limit=4,
        waiters=7,
        verdict="leak",
        holders=holders,
        left_out=left_out,
    )


def described(**different: object) -> Holder:
    """Somebody who idles."""
    described = {"method": "GET", "route": "/a", "age_seconds": 2.0, "executing": False, "executing_seconds": 0.25}
    return Holder(**{**described, "statements": 1, "leaked": False, "overflow": False, **different})  # type: ignore[arg-type]


def test_a_report_says_the_state_of_the_pool_in_its_first_line() -> None:
    first = report().text().splitlines()[0]
    assert first.startswith(
        "No connection for 1.50 s (pool_timeout 1.5 s): 3 used (1 overflow), 1 idle, size 2, limit 4, 7 still waiting. "
    )
    assert "1 used (0 overflow)" in report(used=1).text()
    assert "more\n" not in report().text()
    assert "  and 2 more\nWhat to do:\n  1. Close the session" in report(left_out=2).text()


@pytest.mark.parametrize(
    ("who", "line"),
    [
        (described(), "GET /a: 2.00 s, idle (executing 0.25 s in all)"),
        (described(executing=True), "GET /a: 2.00 s, executing (executing 0.25 s in all)"),
        (described(leaked=True, executing=True), "GET /a: 2.00 s, leaked (executing 0.25 s in all)"),
        (described(wants="waits for a second one"), "GET /a: 2.00 s, waits for a second one (executing 0.25 s in all)"),
        (described(method=NO_REQUEST, route=NO_REQUEST), "(none): 2.00 s, idle (executing 0.25 s in all)"),
        (
            described(lines=("a.py:1 f",), now_at="a.py:2 f", made_at="b.py:3 g", last_statement="SELECT 1"),
            (
                "GET /a: 2.00 s, idle (executing 0.25 s in all) at a.py:1 f, now at a.py:2 f, session made at b.py:3 "
                "g, last statement: SELECT 1"
            ),
        ),
        (
            described(lines=("a.py:1 f", "b.py:3 g"), now_at="b.py:3 g", made_at="b.py:3 g"),
            "GET /a: 2.00 s, idle (executing 0.25 s in all) at a.py:1 f, now at b.py:3 g, session made at b.py:3 g",
        ),
        (
            described(lines=("a.py:1 f", "b.py:3 g"), now_at="a.py:1 f", made_at="a.py:1 f"),
            "GET /a: 2.00 s, idle (executing 0.25 s in all) at a.py:1 f",
        ),
    ],
)
def test_a_holder_is_described_in_one_line(who: Holder, line: str) -> None:
    lines = report(described(route="/first"), who).text().splitlines()
    assert lines[1:4] == [
        "Holders, longest first:",
        "  1. GET /first: 2.00 s, idle (executing 0.25 s in all)",
        f"  2. {line}",
    ]


def test_not_more_holders_are_listed_than_somebody_reads() -> None:
    assert 5 <= LISTED <= 50


def test_a_report_without_holders_says_why_there_are_none() -> None:
    lines = report().text().splitlines()
    assert lines[1:3] == ["Holders: none; all connections change hands right now.", "What to do:"]
