"""Mistakes that hide: in a class, in a commit, in a background task, in a session nobody opened for this request."""

import inspect
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.templating import Jinja2Templates
from pydantic import TypeAdapter
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from tests.findings.apps import shared_session, subtle
from tests.findings.apps.shop import Customer, Order
from tests.findings.conftest import StageApp
from tests.findings.guilty import guilty_lines, place
from tests.findings.stage import Build, Stage
from tests.findings.visitor import Visitor
from tests.servers.databases import ASYNC, SYNC

pytestmark = pytest.mark.filterwarnings(
    # What SQLAlchemy, the drivers and Python themselves say about a connection that was dropped.
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def accused_at(visitor: Visitor, finding: str, build: Build, route: str = "/orders/{number}") -> int:
    """How often a finding was made; asserts that no other was, with its route and at the guilty line."""
    findings = visitor.findings()
    told = {(found.finding, found.route, place(found.lines[0])) for found in findings}
    assert told == {(finding, route, line) for line in guilty_lines(build)}
    return len(findings)


FORMS = [
    (build, finding, database)
    for build, finding, databases in (
        (subtle.engine_in_a_class, "engine_per_request", SYNC),
        (subtle.loop_blocked_by_a_commit, "blocked_event_loop", SYNC),
        (subtle.loop_blocked_by_a_dependency, "blocked_event_loop", SYNC),
        (subtle.nested_in_a_background_task, "nested_checkout", ASYNC),
        (subtle.nested_in_gather, "nested_checkout", ASYNC),
        (subtle.nested_in_wait_for, "nested_checkout", ASYNC),
        (subtle.nested_at_the_end_of_a_block, "nested_checkout", ASYNC),
        (subtle.nested_in_a_group_of_anyio, "nested_checkout", ASYNC),
        (subtle.nested_behind_a_middleware, "nested_checkout", ASYNC),
        (subtle.nested_in_a_thread, "nested_checkout", SYNC),
        (subtle.idle_in_a_background_task, "idle_hold", ASYNC),
        (subtle.idle_while_streaming, "idle_hold", ASYNC),
        (subtle.repeated_in_a_repository, "repeated_statement", SYNC),
        (subtle.repeated_by_a_response_model, "repeated_statement", SYNC),
    )
    for database in databases
]


def names(value: object) -> str:
    """A test's id."""
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("build", "finding", "database"), FORMS, ids=names)
def test_a_mistake_that_hides_is_found_at_its_line(build: Build, finding: str, database: str, stage: StageApp) -> None:
    with stage(database, build, idle_hold_seconds=0.2 if finding == "idle_hold" else 60.0) as visitor:
        for _ in range(3):
            assert visitor.get("/orders/7").is_success
            visitor.until_quiet()
        times = accused_at(visitor, finding, build)
        assert times == (2 if finding == "engine_per_request" else 3)


@pytest.mark.parametrize("database", SYNC)
def test_the_wait_for_a_connection_on_the_loops_thread_blocks_it_for_as_long_as_it_takes(
    database: str, stage: StageApp
) -> None:
    with stage(database, subtle.loop_blocked_by_a_wait) as visitor:
        holder = visitor.begin("/hold")
        assert visitor.get("/orders/7").is_success
        assert holder.result().is_success
        assert accused_at(visitor, "blocked_event_loop", subtle.loop_blocked_by_a_wait) == 1
        (found,) = visitor.findings()
        assert 0.05 < found.numbers["blocked_seconds"] < 5.0


@pytest.mark.parametrize(
    ("build", "database"),
    [
        *((shared_session.faulty_warm, database) for database in ASYNC),
        *((shared_session.faulty_cold, database) for database in ASYNC),
    ],
    ids=names,
)
def test_a_session_for_all_requests_is_found_warm_and_cold(build: Build, database: str, stage: StageApp) -> None:
    with stage(database, build) as visitor:
        if build is shared_session.faulty_warm:
            assert visitor.get("/warm").is_success
        visitor.all(["/orders/1", "/orders/2"], clients=2)
        found = [finding for finding in visitor.findings() if finding.finding != "leaked_connection"]
        assert {finding.finding for finding in found} == {"shared_session"}
        assert {place(finding.lines[0]) for finding in found} == set(guilty_lines(build))
        assert {finding.route for finding in found} == {"/orders/{number}"}


@pytest.mark.parametrize("database", ASYNC)
def test_a_session_for_all_requests_is_found_although_its_transactions_never_meet(
    database: str, stage: StageApp
) -> None:
    with stage(database, shared_session.faulty_committing) as visitor:
        assert {answer.text for answer in visitor.all(["/orders/1", "/orders/2"], clients=2)} == {'"new"'}
        (found,) = visitor.findings()
    assert (found.finding, found.route) == ("shared_session", "/orders/{number}")
    line = inspect.getsourcelines(shared_session._read_and_commit)
    assert line[0][int(place(found.lines[0]).rpartition(":")[2]) - line[1]].strip().endswith("# guilty")
    assert found.lines[-1].endswith("faulty_committing")


@pytest.mark.parametrize("database", ASYNC)
def test_sessions_of_their_own_that_do_the_same_are_not_accused(database: str, stage: StageApp) -> None:
    with stage(database, shared_session.corrected_committing) as visitor:
        assert {answer.text for answer in visitor.all(["/orders/1", "/orders/2"], clients=2)} == {'"new"'}
        assert visitor.findings() == ()


@pytest.mark.parametrize("database", ASYNC)
def test_one_session_in_two_tasks_of_one_request_is_found(database: str, stage: StageApp) -> None:
    with stage(database, subtle.shared_between_two_tasks) as visitor:
        visitor.get("/orders/7")
        # Closing the session is refused as well: what the other task then gets only the garbage collector gives back.
        others = [finding for finding in visitor.findings() if finding.finding != "leaked_connection"]
        found = {(finding.finding, place(finding.lines[0])) for finding in others}
        assert found == {("shared_session", line) for line in guilty_lines(subtle.shared_between_two_tasks)}


def test_a_template_that_loads_row_by_row_is_found_at_its_own_line_and_at_the_endpoints(
    stage: StageApp, tmp_path: Path
) -> None:
    page = "{# customers and how many orders each has #}\n<ul>\n{% for customer in customers %}\n"
    (tmp_path / "customers.html").write_text(f"{page}\n<li>{{{{ customer.orders | length }}}}</li>\n{{% endfor %}}")

    def build(stage: Stage) -> None:
        engine, templates = stage.engine(), Jinja2Templates(tmp_path)

        @stage.app.get("/orders/{number}")
        def read(request: Request, number: int) -> Response:
            with Session(engine) as session:
                customers = session.scalars(select(Customer)).all()
                return templates.TemplateResponse(request, "customers.html", {"customers": customers})  # guilty

    with stage("sqlite-pysqlite", build) as visitor:
        assert visitor.get("/orders/7").is_success
        (found,) = visitor.findings()
    template, endpoint = map(place, found.lines)
    assert (found.finding, template) == ("repeated_statement", f"{tmp_path / 'customers.html'}:5")
    assert [endpoint] == guilty_lines(build)


def test_rows_loaded_by_an_encoder_that_the_app_calls_are_found_at_the_call(stage: StageApp) -> None:
    def build(stage: Stage) -> None:
        engine = stage.engine()

        @stage.app.get("/orders/{number}")
        def read(number: int) -> Any:
            with Session(engine) as session:
                customers = TypeAdapter(list[subtle.CustomerOut])
                found = session.scalars(select(Customer)).all()
                return jsonable_encoder(found, custom_encoder={Customer: customers_out(customers)})  # guilty

    def customers_out(adapter: TypeAdapter[Any]) -> Any:
        return lambda customer: adapter.dump_python(adapter.validate_python([customer], from_attributes=True))

    with stage("sqlite-pysqlite", build) as visitor:
        assert visitor.get("/orders/7").is_success
        (found,) = visitor.findings()
    assert found.finding == "repeated_statement"
    assert place(found.lines[1]) == guilty_lines(build)[0]


class ShopSession(Session):
    """A session class of the app's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, expire_on_commit=False, **options)


def test_a_leaked_session_of_the_apps_own_class_was_made_where_it_was_asked_for(stage: StageApp) -> None:
    kept = []

    def build(stage: Stage) -> None:
        engine = stage.engine(connect_args={"check_same_thread": False})

        @stage.app.get("/orders/{number}")
        def read(number: int) -> None:
            session = ShopSession(engine)  # guilty
            kept.append(session)
            session.get(Order, number)

    with stage("sqlite-pysqlite", build) as visitor:
        assert visitor.get("/orders/7").is_success
        (found,) = visitor.findings()
        assert (found.finding, place(found.lines[-1])) == ("leaked_connection", guilty_lines(build)[0])
        kept.pop().close()


SLOW = text("SELECT pg_sleep(0.12)")


def slow_in_one_session(stage: Stage) -> None:
    engine = stage.engine()

    @stage.app.get("/orders/{number}")
    def read(number: int, pause: float) -> None:
        with Session(engine) as session:
            for _ in range(4):
                session.execute(SLOW)  # guilty
                time.sleep(pause)


def slow_in_sessions_of_their_own(stage: Stage) -> None:
    engine = stage.engine()

    @stage.app.get("/orders/{number}")
    def read(number: int, pause: float) -> None:
        for _ in range(4):
            with Session(engine) as session:
                session.execute(SLOW)  # guilty
            time.sleep(pause)


@pytest.mark.parametrize("build", [slow_in_one_session, slow_in_sessions_of_their_own])
def test_a_repeated_statement_may_be_slow_but_one_that_comes_after_a_pause_is_a_poll(
    build: Build, stage: StageApp
) -> None:
    with stage("postgres-psycopg", build, repeated_statements=4, idle_hold_seconds=60.0) as visitor:
        assert visitor.get("/orders/7?pause=0.15").is_success
        assert visitor.findings() == ()
        assert visitor.get("/orders/7?pause=0").is_success
        assert accused_at(visitor, "repeated_statement", build) == 1


def test_a_slow_checkout_says_how_much_of_it_was_no_phase_of_the_pool(stage: StageApp) -> None:
    def build(stage: Stage) -> None:
        engine = stage.engine()

        @event.listens_for(engine, "connect")
        def greet(*_: object) -> None:
            time.sleep(0.3)

        @stage.app.get("/orders/{number}")
        def read(number: int) -> None:
            with Session(engine) as session:
                session.get(Order, number)

    with stage("sqlite-pysqlite", build, slow_checkout_seconds=0.25) as visitor:
        assert visitor.get("/orders/7").is_success
        (found,) = visitor.findings()
    assert found.finding == "slow_checkout"
    assert " s in none of these: the event loop was busy, or a listener of the app's" in found.message
