"""What is noted against a request when a session is closed before it has sent anything, and what takes it back."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, QueuePool, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import dbwatch
from dbwatch import judgement
from dbwatch.hooks.switch import SWITCH
from dbwatch.records import UNKNOWN, Request
from tests.core.made import a_request, working_for


class Base(DeclarativeBase):
    """The metadata."""


class Order(Base):
    """An order, with three tables beside it."""

    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="new")


class Article(Base):
    __tablename__ = "articles"
    number: Mapped[int] = mapped_column(primary_key=True)


class Parcel(Base):
    __tablename__ = "parcels"
    number: Mapped[int] = mapped_column(primary_key=True)


class Receipt(Base):
    __tablename__ = "receipts"
    number: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0)
    dbwatch.watch(engine, "shop")
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Order(number=1))
    yield engine
    engine.dispose()


@pytest.fixture
def request_() -> Iterator[Request]:
    with working_for(a_request(status=200, method="PUT")) as request:
        yield request


def told(request: Request) -> list[str]:
    """What will be reported at the end of the request."""
    return [f"{finding} in {proof.pool}: {proof.detail}" for finding, proof in judgement.proven(request)]


def change(engine: Engine, state: str) -> None:
    with Session(engine) as session:
        session.get_one(Order, 1).state = state


def test_objects_are_counted_and_up_to_three_kinds_of_them_named(engine: Engine, request_: Request) -> None:
    with Session(engine) as session:
        session.add_all([Order(), Order(), Parcel(), Article(), Receipt()])
    (line,) = told(request_)
    what = "had sent nothing for 5 objects (Article, Order, Parcel) that it was told to save or delete."
    assert line == f"lost_write in shop: The session was closed and {what}"
    assert [proof.numbers for _, proof in judgement.proven(request_)] == [{"objects": 5}]


def test_a_session_without_an_engine_of_its_own_is_of_a_pool_that_cannot_be_told(
    engine: Engine, request_: Request
) -> None:
    with Session(binds={Order: engine}) as session:
        session.add(Order())
    assert told(request_)[0].startswith(f"lost_write in {UNKNOWN}: ")


def test_a_session_that_has_a_connection_is_of_that_connections_pool(engine: Engine, request_: Request) -> None:
    with Session(binds={Order: engine}) as session:
        session.get_one(Order, 1)
        session.add(Order())
    assert told(request_)[0].startswith("lost_write in shop: ")


def test_a_change_counts_for_a_put_that_writes_nothing_before_or_after_it(engine: Engine, request_: Request) -> None:
    change(engine, "paid")
    (line,) = told(request_)
    what = "1 object (Order) changed and not saved, and this PUT wrote nothing."
    assert line == f"lost_write in shop: The session was closed with {what}"
    with engine.begin() as connection:
        connection.execute(text("UPDATE orders SET state = 'paid'"))
    assert told(request_) == []
    with working_for(a_request(status=200, method="PUT")) as other:
        with engine.begin() as connection:
            connection.execute(text("UPDATE orders SET state = 'sent'"))
        change(engine, "paid")
        assert other.evidence is None


def test_what_one_line_forgets_again_after_a_write_may_have_been_saved_by_it(engine: Engine, request_: Request) -> None:
    for state in ("paid", "sent"):
        with Session(engine) as session:
            session.add(Order(state=state))
        assert len(told(request_)) == (state == "paid")
        with engine.begin() as connection:
            connection.execute(text("UPDATE orders SET state = 'paid'"))
    assert told(request_) == []


def test_a_write_refutes_nothing_else(engine: Engine, request_: Request) -> None:
    change(engine, "paid")
    judgement.accuse(request_, "shared_session", "shop", (), "Shared.")
    with engine.begin() as connection:
        connection.execute(text("UPDATE orders SET state = 'paid'"))
    assert [finding for finding, _proof in judgement.proven(request_)] == ["shared_session"]


def test_a_statement_of_which_it_is_not_known_whether_it_writes_is_taken_for_a_write(
    engine: Engine, request_: Request
) -> None:
    change(engine, "paid")
    with engine.connect() as connection:
        connection.execute(text("PRAGMA user_version"))
    assert told(request_) == []


def test_a_session_that_is_closed_outside_of_requests_is_nobodys_mistake(engine: Engine, request_: Request) -> None:
    request_.ended_at = 1.0
    with Session(engine) as session:
        session.add(Order())
    assert request_.evidence is None


def test_nothing_is_noted_while_dbwatch_is_switched_off(
    engine: Engine, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SWITCH, "on", False)
    with Session(engine) as session:
        session.add(Order())
        session.add(Order())
    assert request_.evidence is None
