"""The checkout timeout report: five pools exhausted for five reasons, and each is told apart and named."""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Request, Response
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

import dbwatch
from dbwatch import Finding
from tests.core.numbers import Numbers
from tests.findings.apps import exhausted
from tests.findings.apps.exhausted import SECRET, SIZE, TIMEOUT
from tests.findings.apps.shop import Tag
from tests.findings.conftest import StageApp
from tests.findings.guilty import guilty_lines, place
from tests.findings.stage import Stage
from tests.findings.visitor import Visitor
from tests.servers.waiting import eventually

ASYNC_POSTGRES = ("postgres-asyncpg", "postgres-psycopg-async")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def hold_all(visitor: Visitor, size: int = SIZE) -> list[Any]:
    """Have every connection held."""
    holders = [visitor.begin(f"/hold/{number}") for number in range(1, size + 1)]
    eventually(lambda: visitor.connections_out() == size, every=0.01)
    return holders


def timeouts(visitor: Visitor) -> list[Finding]:
    """The timeouts found so far."""
    return [found for found in visitor.findings_so_far() if found.finding == "checkout_timeout"]


def by_a_leak(visitor: Visitor) -> None:
    for number in range(SIZE):
        assert visitor.get(f"/hold/{number}").is_success
    visitor.until_quiet()
    assert visitor.get("/victim").status_code == 500


def by_long_statements(visitor: Visitor) -> None:
    hold_all(visitor)
    assert visitor.get("/victim").status_code == 500


def by_idle_holds(visitor: Visitor) -> None:
    hold_all(visitor)
    assert visitor.get("/victim").status_code == 500
    assert visitor.get("/release").is_success


def by_nesting(visitor: Visitor) -> None:
    answers = visitor.all([f"/hold/{number}" for number in range(1, SIZE + 1)])
    assert any(answer.status_code == 500 for answer in answers)


def by_lack_of_size(visitor: Visitor) -> None:
    answers = visitor.many("/hold/1", 60, clients=60)
    assert any(answer.status_code == 500 for answer in answers)


VERDICTS: dict[Callable[[Visitor], None], tuple[str, str]] = {
    by_a_leak: ("Most connections are leaked", "Close the session on every path"),
    by_long_statements: ("busy with long statements", "Make the statements above faster"),
    by_idle_holds: ("held by requests that run no SQL", "Commit or close the session before the slow part"),
    by_nesting: ("they wait for each other", "Use one session for the whole request"),
    by_lack_of_size: ("more requests than connections", "Raise pool_size"),
}


@pytest.mark.parametrize("database", ASYNC_POSTGRES)
@pytest.mark.parametrize("exhaust", VERDICTS)
def test_each_reason_has_its_own_verdict_holders_and_first_remedy(
    exhaust: Callable[[Visitor], None], database: str, stage: StageApp, numbers: Numbers
) -> None:
    build = getattr(exhausted, exhaust.__name__)
    (line,) = guilty_lines(build)
    with stage(database, build, idle_hold_seconds=60.0) as visitor:
        exhaust(visitor)
        visitor.until_quiet()
        found = timeouts(visitor)
        assert found
        for report in found:
            meaning, remedy = VERDICTS[exhaust]
            assert meaning in report.message
            assert f"What to do:\n  1. {remedy}" in report.message
            assert f"size {SIZE}, limit {SIZE}, " in report.message
            assert f"pool_timeout {TIMEOUT:g} s" in report.message
            holders = [text for text in report.message.splitlines() if "GET /hold/{number}: " in text]
            # In a pool that is only too small, any of them, or all, may change hands at that very moment; of those that
            # wait for each other, one that has given up may have given back what it had.
            fewest = 0 if exhaust is by_lack_of_size else 1 if exhaust is by_nesting else SIZE
            assert fewest <= len(holders) <= SIZE
            state = re.search(r": (\d+) used \(0 overflow\), (\d+) idle, ", report.message)
            assert state is not None
            used, idle = map(int, state.groups())
            assert used == len(holders)
            assert idle <= SIZE - used  # one that is just being given back is neither
            assert all(f" at {line} " in holder for holder in holders)
            assert report.numbers["waited_seconds"] >= TIMEOUT * 0.9
            assert SECRET not in report.message
        assert any(line in report.message for report in found)
        assert numbers("dbwatch_findings_total", finding="checkout_timeout") == len(found)
        assert numbers("dbwatch_checkout_timeouts_total") == len(found)
        victims = {report.route for report in found}
        assert victims == (
            {"/victim"} if exhaust in (by_a_leak, by_long_statements, by_idle_holds) else {"/hold/{number}"}
        )


async def _pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


@pytest.mark.parametrize("spawned", [False, True], ids=["by the request's task", "by a task of a middleware"])
def test_a_holder_that_waits_for_a_thread_is_told_apart_and_not_accused(
    spawned: bool, stage: StageApp, numbers: Numbers
) -> None:
    def build(stage: Stage) -> None:
        exhausted.by_lack_of_threads(stage)
        if spawned:
            stage.add_inner(BaseHTTPMiddleware, dispatch=_pass_on)

    (line,) = guilty_lines(exhausted.by_lack_of_threads)
    with stage("postgres-psycopg", build, idle_hold_seconds=TIMEOUT / 3) as visitor:
        other = create_engine(visitor.stage.url)
        with other.begin() as lock:
            lock.execute(text("SELECT pg_advisory_xact_lock(4711)"))
            assert visitor.get("/threads").is_success
            answers = [*hold_all(visitor, 1), *(visitor.begin(f"/hold/{number}") for number in (2, 3, 4))]
            eventually(lambda: visitor.get("/threads").json() == 2, every=0.01)
        other.dispose()
        statuses = [answer.result().status_code for answer in answers]
        assert statuses[0] == 200
        assert 500 in statuses
        found = visitor.findings()
    reports = [report.message for report in found if report.finding == "checkout_timeout"]
    assert len(reports) == statuses.count(500)
    assert "The holders wait for a thread, and the threads wait for a connection" in reports[0]
    assert "What to do:\n  1. Commit before a plain `def` dependency" in reports[0]
    (holder,) = (row for row in reports[0].splitlines() if "GET /hold/{number}: " in row)
    assert ", waiting for a thread (executing" in holder
    assert f" at {line} " in holder
    assert "idle_hold" not in {finding.finding for finding in found}


def a_block_that_gets_no_connection(stage: Stage) -> None:
    sessions = async_sessionmaker(stage.async_engine(pool_size=1, max_overflow=0, pool_timeout=0.2))

    @stage.app.get("/orders")
    async def read() -> None:
        async with sessions() as session:
            await session.execute(text("SELECT 1"))
            async with sessions.begin() as second:  # guilty
                second.add(Tag(name="never"))


def test_a_timeout_at_the_end_of_a_sessions_block_is_told_with_the_line_of_the_block(stage: StageApp) -> None:
    (line,) = guilty_lines(a_block_that_gets_no_connection)
    with stage("sqlite-aiosqlite", a_block_that_gets_no_connection) as visitor:
        assert visitor.get("/orders").status_code == 500
        (report,) = (found for found in visitor.findings() if found.finding == "checkout_timeout")
    assert place(report.lines[0]) == line
    assert "The holders are waiting for another connection themselves" in report.message


def test_holders_that_change_quickly_but_idle_most_of_their_time_are_not_called_too_few(stage: StageApp) -> None:
    with stage("postgres-asyncpg", exhausted.by_short_idle_holds, idle_hold_seconds=60.0) as visitor:
        answers = visitor.all([f"/hold/{number}" for number in range(60)], clients=60)
        assert any(answer.status_code == 500 for answer in answers)
        found = timeouts(visitor)
    # Of a holder that has only just come nobody can say what it will do; at times all connections change hands.
    holders = {report.message: _holders(report.message) for report in found}
    seen = [message for message, known in holders.items() if known and all(_has_idled(*holder) for holder in known)]
    assert seen
    assert [message for message in seen if "held by requests that run no SQL" not in message] == []


def _holders(message: str) -> list[tuple[float, float]]:
    """Seconds of each holder in a report: since when, and of them executing."""
    rows = re.findall(r"GET /hold/\{number\}: ([\d.]+) s, \w+ \(executing ([\d.]+) s", message)
    return [(float(age), float(executing)) for age, executing in rows]


def _has_idled(age: float, executing: float) -> bool:
    return age >= 0.2 and executing < age / 3


@pytest.mark.parametrize("database", ASYNC_POSTGRES)
def test_a_holder_is_told_by_what_it_does_and_by_its_last_statement(database: str, stage: StageApp) -> None:
    with stage(database, exhausted.by_long_statements) as visitor:
        by_long_statements(visitor)
        (report,) = timeouts(visitor)
    assert report.message.count(", executing (executing ") == SIZE
    assert report.message.count("last statement: SELECT pg_sleep(2), ") == SIZE
    with stage(database, exhausted.by_a_leak) as visitor:
        by_a_leak(visitor)
        report = timeouts(visitor)[-1]
        assert report.message.count(", leaked (executing ") == SIZE
        assert report.message.count(", session made at tests/findings/apps/exhausted.py:") == SIZE
        assert report.message.count("last statement: SELECT orders") == SIZE


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[logging.LogRecord]]]:
    """The timeout reports in the log so far."""
    with caplog.at_level(logging.WARNING, logger="dbwatch"):
        yield lambda: [one for one in caplog.records if getattr(one, "dbwatch_finding", "") == "checkout_timeout"]


def pool_of_fifty(stage: Stage) -> None:
    stage.size = 50
    exhausted.by_idle_holds(stage)


def pool_of_sixty(stage: Stage) -> None:
    stage.size = 60
    exhausted.by_idle_holds(stage)


def test_fifty_holders_are_listed_and_any_more_are_counted(
    stage: StageApp, records: Callable[[], list[logging.LogRecord]]
) -> None:
    for build, size in ((pool_of_fifty, 50), (pool_of_sixty, 60)):
        with stage("postgres-asyncpg", build, idle_hold_seconds=60.0) as visitor:
            hold_all(visitor, size)
            assert visitor.get("/victim").status_code == 500
            assert visitor.get("/release").is_success
            report = timeouts(visitor)[-1].message
        assert report.count("GET /hold/{number}: ") == 50
        assert ("  and 10 more\n" in report) == (size == 60)


def test_many_timeouts_at_once_are_all_counted_and_logged_once(
    stage: StageApp, numbers: Numbers, records: Callable[[], list[logging.LogRecord]]
) -> None:
    with stage("postgres-asyncpg", exhausted.by_idle_holds, idle_hold_seconds=60.0) as visitor:
        hold_all(visitor)
        answers = visitor.many("/victim", 20, clients=20)
        assert {answer.status_code for answer in answers} == {500}
        assert visitor.get("/release").is_success
        assert len(timeouts(visitor)) == 20
    assert numbers("dbwatch_findings_total", finding="checkout_timeout") == 20
    (record,) = records()
    assert record.levelno == logging.WARNING
    assert record.__dict__["dbwatch_route"] == "/victim"
    assert record.__dict__["dbwatch_numbers"]["used"] == SIZE


def test_neither_parameters_nor_passwords_are_in_any_text(
    stage: StageApp, records: Callable[[], list[logging.LogRecord]], caplog: pytest.LogCaptureFixture
) -> None:
    def with_a_password(stage: Stage) -> None:
        stage.url = stage.url.replace("postgres@", "postgres:pa55word@")
        exhausted.by_long_statements(stage)

    with stage("postgres-asyncpg", with_a_password) as visitor:
        by_long_statements(visitor)
        told = [str(found) for found in visitor.findings()]
        told += [record.getMessage() + str(record.__dict__) for record in caplog.records if record.name == "dbwatch"]
        told += [visitor.get("/metrics").text]
        told += [str(snapshot) for snapshot in dbwatch.snapshot()]
    assert records()
    assert not [text for text in told if SECRET in text or "pa55word" in text]
