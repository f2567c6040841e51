"""Where findings go: the log, the ring, callbacks; and the options that say when and where."""

import logging
import re
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import text

import dbwatch
from dbwatch import Finding
from dbwatch.findings import FOUND, KEPT
from dbwatch.ledger import LEDGER
from dbwatch.outputs import logs
from tests.core.numbers import Numbers
from tests.findings.apps import lost_write, nested_checkout, repeated_statement
from tests.findings.conftest import StageApp
from tests.findings.guilty import guilty_lines, place
from tests.findings.stage import Stage

SQLITE = "sqlite-pysqlite"
Records = Callable[[], list[logging.LogRecord]]


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[Records]:
    """The records of findings in the log so far."""
    with caplog.at_level(logging.DEBUG, logger="dbwatch"):
        yield lambda: [one for one in caplog.records if hasattr(one, "dbwatch_finding")]


def test_a_finding_is_logged_as_one_readable_paragraph_with_structured_fields(
    stage: StageApp, records: Records
) -> None:
    with stage(SQLITE, lost_write.faulty_sync) as visitor:
        visitor.post("/orders")
        (found,) = visitor.findings()
    (record,) = records()
    assert (record.name, record.levelno) == ("dbwatch", logging.WARNING)
    fields = record.__dict__
    assert fields["dbwatch_finding"] == "lost_write"
    assert (fields["dbwatch_method"], fields["dbwatch_route"]) == ("POST", "/orders")
    assert fields["dbwatch_pool"] == found.pool
    assert fields["dbwatch_request"] == found.request > 0
    assert fields["dbwatch_lines"] == list(found.lines)
    assert fields["dbwatch_numbers"] == found.numbers == {"statements": 1, "count": 1}
    assert fields["dbwatch_left_out"] == 0
    message = record.getMessage()
    for part in ("[lost_write]", "POST /orders", found.message, "Cause: ", "Fix: Commit before", "/lost_write.md"):
        assert part in message
    assert guilty_lines(lost_write.faulty_sync)[0] in message
    assert "\n\n" not in message


def test_the_same_finding_at_the_same_line_is_logged_once_a_minute_with_the_number_left_out(
    stage: StageApp, records: Records, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage(SQLITE, lost_write.faulty_sync, repeated_statement.faulty_sync) as visitor:
        visitor.many("/orders", 20, method="POST")
        visitor.get("/customers")  # another finding, another line
        visitor.findings()
        assert [record.__dict__["dbwatch_finding"] for record in records()] == ["lost_write", "repeated_statement"]
        monkeypatch.setattr(logs, "monotonic", lambda: monotonic() + logs.INTERVAL + 1)
        visitor.post("/orders")
        visitor.findings()
        last = records()[-1]
        assert len(records()) == 3
        assert last.__dict__["dbwatch_left_out"] == 19
        assert "19 more of these were left out" in last.getMessage()
    assert numbers("dbwatch_findings_total", finding="lost_write") == 21


def test_the_ring_keeps_the_last_findings_in_order(stage: StageApp, numbers: Numbers) -> None:
    with stage(SQLITE, lost_write.faulty_sync, nested_checkout.faulty_sync) as visitor:
        visitor.many("/orders", KEPT + 20, method="POST")
        visitor.get("/orders/7")
        kept = visitor.findings()
    assert len(kept) == KEPT
    assert kept[-1].finding == "nested_checkout"
    assert [found.at for found in kept] == sorted(found.at for found in kept)
    assert numbers("dbwatch_findings_total") == KEPT + 21


def test_a_callback_has_every_finding_once_and_one_that_raises_harms_nobody(
    stage: StageApp, numbers: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    had: list[Finding] = []

    def broken(finding: Finding) -> None:
        raise LookupError("nobody home")

    FOUND.subscribe(broken)
    with stage(SQLITE, lost_write.faulty_sync, on_finding=had.append) as visitor:
        answers = visitor.many("/orders", 12, method="POST")
        assert {answer.status_code for answer in answers} == {201}
        assert visitor.findings() == tuple(had)
        assert len(had) == 12
        dbwatch.flush()
    assert numbers("dbwatch_internal_errors_total", site="findings.listener") == 12
    assert sum("nobody home" in record.getMessage() for record in caplog.records) == 1
    # The fixture asks that dbwatch itself has not failed; this once it was meant to.
    LEDGER.accumulators.counters["dbwatch_internal_errors_total"].clear()


def test_a_callback_may_use_the_database_itself(stage: StageApp) -> None:
    """It runs after the fold, so a checkout of its own does not lock up."""
    kept: list[Any] = []

    def store(finding: Finding) -> None:
        with kept[0].connect() as connection:
            kept.append(connection.scalar(text("SELECT 1")))

    def with_an_engine(stage: Stage) -> None:
        kept.append(stage.engine())
        lost_write.faulty_sync(stage)

    with stage(SQLITE, with_an_engine, on_finding=store) as visitor:
        assert visitor.post("/orders").is_success
        assert [found.finding for found in visitor.findings()] == ["lost_write"]
    assert kept[1:] == [1]


def few_statements(stage: Stage) -> None:
    engine = stage.engine()

    @stage.app.get("/items")
    def items() -> list[int]:
        with engine.connect() as connection:
            return [connection.scalar(text("SELECT 1")) or 0 for _ in range(4)]


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_threshold_is_an_option_and_an_environment_variable(
    how: str, stage: StageApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {}
    if how == "option":
        options = {"repeated_statements": 4}
    else:
        monkeypatch.setenv("DBWATCH_REPEATED_STATEMENTS", "4")
    with stage(SQLITE, few_statements, **options) as visitor:
        visitor.get("/items")
        assert [found.finding for found in visitor.findings()] == ["repeated_statement"]
    monkeypatch.delenv("DBWATCH_REPEATED_STATEMENTS", raising=False)
    with stage(SQLITE, few_statements) as visitor:
        before = visitor.findings()
        visitor.get("/items")
        assert visitor.findings() == before


def test_only_lines_below_the_app_root_are_named(stage: StageApp) -> None:
    with stage(SQLITE, lost_write.faulty_sync, app_root="tests/findings/apps") as visitor:
        visitor.post("/orders")
        (found,) = visitor.findings()
        assert [place(line) for line in found.lines] == guilty_lines(lost_write.faulty_sync)
    with stage(SQLITE, lost_write.faulty_sync, app_root="docs") as visitor:
        visitor.post("/orders")
        assert visitor.findings()[-1].lines == ()


def slow_statements(stage: Stage) -> None:
    engine = stage.engine()

    @stage.app.get("/items")
    def items() -> None:
        with engine.connect() as connection:
            for _ in range(4):
                connection.execute(text("SELECT pg_sleep(0.02)"))


def test_a_response_tells_the_browser_where_its_time_went(stage: StageApp) -> None:
    with stage("postgres-psycopg", slow_statements, server_timing=True) as visitor:
        header = visitor.get("/items").headers["server-timing"]
    pattern = r"db-wait;dur=([\d.]+), db-hold;dur=([\d.]+), db-executing;dur=([\d.]+), db-statements;desc=(\d+)"
    told = re.fullmatch(pattern, header)
    assert told is not None
    wait, hold, executing, statements = (float(number) for number in told.groups())
    assert wait == 0.0
    assert 80.0 <= executing <= hold  # milliseconds
    assert statements == 4
    with stage(SQLITE, few_statements) as visitor:
        assert "server-timing" not in visitor.get("/items").headers


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_slow_request_is_said_in_one_line(
    how: str, stage: StageApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"slow_request_seconds": 0.000_001}
    if how == "environment":
        options = {}
        monkeypatch.setenv("DBWATCH_SLOW_REQUEST_SECONDS", "0.000001")
    with caplog.at_level(logging.WARNING, logger="dbwatch"), stage(SQLITE, few_statements, **options) as visitor:
        visitor.get("/items?secret=hush")
        visitor.until_quiet()
    (record,) = [one for one in caplog.records if "Slow request" in one.getMessage()]
    message = record.getMessage()
    assert "\n" not in message
    assert message.startswith("Slow request: GET /items took ")
    assert "1 checkouts, 4 statements" in message
    assert "hush" not in message
    assert record.__dict__["dbwatch_route"] == "/items"
    assert record.__dict__["dbwatch_numbers"]["statements"] == 4


def test_without_a_limit_no_request_is_slow(stage: StageApp, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="dbwatch"), stage(SQLITE, few_statements) as visitor:
        visitor.get("/items")
        visitor.until_quiet()
    assert "Slow request" not in caplog.text
