"""What is done with a session that is closed before it has sent anything, each a function of the session."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.findings.apps.shop import Customer, Order, Tag
from tests.findings.apps.writes import word

#: What an endpoint does with its session.
Work = Callable[[Session], Any]


def first_order(session: Session) -> Order:
    """An order that is in the database."""
    return session.scalars(select(Order).order_by(Order.number).limit(1)).one()


# Lost, whatever the request.


def added(session: Session) -> None:
    session.add(Order(state="added"))  # guilty


def added_several(session: Session) -> None:
    session.add_all([Order(state="one"), Order(state="two")])  # guilty


def added_after_a_flush(session: Session) -> None:
    session.add(Order(state="committed"))
    session.commit()
    session.add(Order(state="forgotten"))  # guilty


def added_with_others(session: Session) -> None:
    customer = Customer(name="new", orders=[Order(state="new")])
    session.add(customer)  # guilty
    customer.orders.append(Order(state="another"))


def added_after_one_was_taken_back(session: Session) -> None:
    tag = Tag(name=word())
    session.add(tag)
    session.expunge(tag)
    session.add(Order(state="added"))  # guilty


def added_after_a_rollback(session: Session) -> None:
    session.add(Tag(name=word()))
    session.rollback()
    session.add(Order(state="added"))  # guilty


def added_and_reset(session: Session) -> None:
    session.add(Order(state="added"))  # guilty
    session.reset()


def changed_and_added(session: Session) -> None:
    order = first_order(session)
    order.state = word()
    session.add(order)  # guilty


def deleted(session: Session) -> None:
    session.delete(first_order(session))  # guilty


def merged(session: Session) -> None:
    session.merge(Tag(name=word()))  # guilty


LOST: tuple[Work, ...] = (
    added,
    added_several,
    added_after_a_flush,
    added_with_others,
    added_after_one_was_taken_back,
    added_after_a_rollback,
    added_and_reset,
    changed_and_added,
    deleted,
    merged,
)


# Lost in a PUT or PATCH, which has nothing else to do; anything else may dress an object for its response.


def changed(session: Session) -> None:
    first_order(session).state = word()


def appended(session: Session) -> None:
    customer = session.scalars(select(Customer).order_by(Customer.id).limit(1)).one()
    customer.orders.append(Order(state="appended"))


def attached_by_a_merge(session: Session) -> None:
    with Session(session.get_bind()) as other:
        order = first_order(other)
    order.state = word()
    session.merge(order)


CHANGED: tuple[Work, ...] = (changed, appended, attached_by_a_merge)


# Kept, or meant to go.


def committed(session: Session) -> None:
    session.add(Order(state="added"))
    session.commit()


def committed_by_a_block(session: Session) -> None:
    with session.begin():
        session.add(Order(state="added"))


def rolled_back(session: Session) -> None:
    session.add(Order(state="added"))
    session.rollback()


def taken_back(session: Session) -> None:
    order = Order(state="added")
    session.add(order)
    session.expunge(order)


def all_taken_back(session: Session) -> None:
    session.add(Order(state="added"))
    session.expunge_all()


def dressed_after_a_commit(session: Session) -> None:
    order = Order(state="added")
    session.add(order)
    session.commit()
    session.refresh(order)
    order.state = "hidden"


def dressed_and_added_before_that(session: Session) -> None:
    order = first_order(session)
    session.add(order)
    order.state = word()
    session.commit()
    session.refresh(order)
    order.state = "hidden"


def given_the_same_value(session: Session) -> None:
    order = first_order(session)
    order.state = str(order.state)


def added_as_it_was(session: Session) -> None:
    session.add(first_order(session))


def close_and_save_elsewhere(session: Session, order: Order) -> None:
    bind = session.get_bind()
    session.close()
    with Session(bind) as other, other.begin():
        other.add(order)


def saved_by_another_session(session: Session) -> None:
    order = Order(state="added")
    session.add(order)
    close_and_save_elsewhere(session, order)


def changed_and_saved_by_another_session(session: Session) -> None:
    order = first_order(session)
    order.state = word()
    close_and_save_elsewhere(session, order)


KEPT: tuple[Work, ...] = (
    committed,
    committed_by_a_block,
    rolled_back,
    taken_back,
    all_taken_back,
    dressed_after_a_commit,
    dressed_and_added_before_that,
    given_the_same_value,
    added_as_it_was,
    saved_by_another_session,
    changed_and_saved_by_another_session,
)
