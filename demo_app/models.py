"""The tables of the shop. Their names begin with ``demo_``, because the database may be one with other tables."""

import enum
from datetime import UTC, datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class OrderStatus(enum.StrEnum):
    """Where an order is: pending, then paid, then shipped; cancelled only before it is shipped."""

    PENDING = "pending"
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"

    def may_become(self, status: "OrderStatus") -> bool:
        """Whether an order may go from this status to the other."""
        return status in _NEXT[self]


_NEXT = {
    OrderStatus.PENDING: {OrderStatus.PAID, OrderStatus.CANCELLED},
    OrderStatus.PAID: {OrderStatus.SHIPPED, OrderStatus.CANCELLED},
    OrderStatus.SHIPPED: set[OrderStatus](),
    OrderStatus.CANCELLED: set[OrderStatus](),
}


def _now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """The metadata of all tables."""


class Customer(Base):
    """Who orders."""

    __tablename__ = "demo_customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(200), unique=True)


class Product(Base):
    """What can be ordered, as long as the stock lasts."""

    __tablename__ = "demo_products"
    __table_args__ = (CheckConstraint("stock >= 0"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    price_cents: Mapped[int]
    stock: Mapped[int]


class Order(Base):
    """What a customer ordered at one time."""

    __tablename__ = "demo_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id, ondelete="RESTRICT"), index=True)
    status: Mapped[str] = mapped_column(String(20), default=OrderStatus.PENDING)
    placed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    lines: Mapped[list["OrderLine"]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="OrderLine.product_id"
    )

    @property
    def total_cents(self) -> int:
        """The price of all lines; they must be loaded."""
        return sum(line.quantity * line.price_cents for line in self.lines)


class OrderLine(Base):
    """One product of an order, at the price it had when it was ordered."""

    __tablename__ = "demo_order_lines"

    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id, ondelete="CASCADE"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey(Product.id, ondelete="RESTRICT"), primary_key=True, index=True)
    quantity: Mapped[int]
    price_cents: Mapped[int]
