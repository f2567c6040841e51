"""What the report of a timeout says of a small pool whose holders are known to the last one."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, QueuePool, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import dbwatch
from dbwatch import timeout_report
from dbwatch.context import REQUEST
from dbwatch.facts import Finding
from dbwatch.findings import FOUND
from dbwatch.hooks.pool import CHECKOUT_KEY
from dbwatch.records import Checkout, Request
from tests.core.made import a_request, working_for

TIMEOUT = 0.05


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(
        f"sqlite:///{tmp_path / 'test.db'}", poolclass=QueuePool, pool_size=2, max_overflow=1, pool_timeout=TIMEOUT
    )
    dbwatch.watch(engine, name="shop")
    yield engine
    engine.dispose()


@pytest.fixture
def request_() -> Iterator[Request]:
    with working_for(a_request()) as request:
        yield request


def the_timeout() -> Finding:
    (found,) = (finding for finding in FOUND.recent() if finding.finding == "checkout_timeout")
    return found


def test_it_counts_who_holds_and_who_waits_and_lists_the_holders_from_the_oldest_on(engine: Engine) -> None:
    with ExitStack() as held:
        for number in range(3):
            held.enter_context(engine.connect()).execute(text(f"SELECT {number}"))
            time.sleep(0.01)
        with pytest.raises(PoolTimeoutError):
            engine.connect()
        report = the_timeout()
    assert report.numbers == {
        "waited_seconds": report.numbers["waited_seconds"],
        "timeout_seconds": TIMEOUT,
        "used": 3,
        "idle": 0,
        "waiters": 0,
    }
    assert TIMEOUT * 0.9 <= report.numbers["waited_seconds"] < 20.0
    assert "(pool_timeout 0.05 s): 3 used (1 overflow), 0 idle, size 2, limit 3, 0 still waiting." in report.message
    holders = [line for line in report.message.splitlines() if "last statement" in line]
    assert [line.partition(".")[0].strip() + line[-2:] for line in holders] == ["1 0", "2 1", "3 2"]
    assert "more" not in report.message.partition("What to do:")[0].partition("Holders")[2]


def test_the_holds_of_the_request_that_gave_up_are_known_to_have_wanted_another(
    engine: Engine, request_: Request
) -> None:
    token = REQUEST.set(a_request())
    other = engine.connect()
    REQUEST.reset(token)
    with other, engine.connect(), engine.connect():
        with pytest.raises(PoolTimeoutError):
            engine.connect()
        assert [checkout.starved for checkout in request_.open] == [True, True]
        (watched,) = (checkout.pool for checkout in request_.open[:1])
        assert [checkout.starved for checkout in watched.open] == [False, True, True]
        report = the_timeout()
    assert (report.method, report.route, report.request) == ("GET", "/items", request_.number)
    assert "they wait for each other" in report.message


def test_more_holders_than_somebody_reads_are_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeout_report, "LISTED", 2)
    with engine.connect(), engine.connect(), engine.connect():
        with pytest.raises(PoolTimeoutError):
            engine.connect()
        message = the_timeout().message
    assert "  2. (none): " in message
    assert "  and 1 more\n" in message


def test_connections_that_came_back_at_that_very_moment_are_counted_and_decide(engine: Engine) -> None:
    with engine.connect() as busy, ExitStack() as others:
        for _ in range(2):
            others.enter_context(engine.connect())
        pool = busy.connection.info[CHECKOUT_KEY].pool
        victim = Checkout(pool, None, time.perf_counter())
        victim.wait = 0.0
        for checkout in pool.open:
            checkout.streaming = True
        assert timeout_report.take(victim).verdict == "long_transactions"
        others.close()
        report = timeout_report.take(victim)
    assert (report.used, report.idle, report.verdict) == (1, 2, "too_small")
