"""The tables that the apps share: customers, their orders, and tags whose names are unique."""

from sqlalchemy import ForeignKey, create_engine, delete
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

CUSTOMERS = 12
ORDERS_EACH = 2


class Base(DeclarativeBase):
    """The metadata."""


class Customer(Base):
    """Somebody who orders."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list["Order"]] = relationship(back_populates="customer")


class Order(Base):
    """What they order."""

    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="new")
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer | None] = relationship(back_populates="orders")


class Tag(Base):
    """A word, once."""

    __tablename__ = "tags"
    name: Mapped[str] = mapped_column(primary_key=True)


def create_shop(url: str) -> None:
    """Make the tables and fill them; ``url`` is for a sync driver."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for table in (Order, Customer, Tag):
            session.execute(delete(table))
        session.add_all(
            Customer(id=number, name=f"customer {number}", orders=[Order(state="new") for _ in range(ORDERS_EACH)])
            for number in range(1, CUSTOMERS + 1)
        )
        session.add(Tag(name="first"))
    engine.dispose()
