"""The statements that the sync and the async endpoints share."""

from typing import TypeVar

from sqlalchemy import Select, Update, func, select, update
from sqlalchemy.orm import selectinload

from demo_app.models import Base, Customer, Order, Product
from demo_app.schemas import OrderQuery, PageQuery, ProductQuery

Row = TypeVar("Row", bound=Base)


def customers() -> Select[Customer]:
    """All customers, in the order of their id."""
    return select(Customer).order_by(Customer.id)


def products(query: ProductQuery) -> Select[Product]:
    """The products that the query asks for, in the order of their id."""
    statement = select(Product).order_by(Product.id)
    if query.name is not None:
        statement = statement.where(Product.name.icontains(query.name, autoescape=True))
    return statement


def orders(query: OrderQuery) -> Select[Order]:
    """The orders that the query asks for, newest first, with their lines."""
    statement = select(Order).order_by(Order.id.desc()).options(selectinload(Order.lines))
    if query.customer_id is not None:
        statement = statement.where(Order.customer_id == query.customer_id)
    if query.status is not None:
        statement = statement.where(Order.status == query.status)
    return statement


def order(order_id: int, *, for_update: bool = False) -> Select[Order]:
    """One order with its lines, locked against others until the end of the transaction if it is to be changed."""
    statement = select(Order).where(Order.id == order_id).options(selectinload(Order.lines))
    return statement.with_for_update() if for_update else statement


def count(statement: Select[Row]) -> Select[int]:
    """How many rows the statement has in all."""
    return select(func.count()).select_from(statement.order_by(None).subquery())


def page(statement: Select[Row], query: PageQuery) -> Select[Row]:
    """The asked part of the statement's rows."""
    return statement.limit(query.limit).offset(query.offset)


def take_stock(product_id: int, quantity: int) -> Update:
    """Take from the stock and return the price; no row if there is no such product or not enough of it.

    One statement, so that two orders at the same time cannot both take the last piece.
    """
    return (
        update(Product)
        .where(Product.id == product_id, Product.stock >= quantity)
        .values(stock=Product.stock - quantity)
        .returning(Product.price_cents)
        .execution_options(synchronize_session=False)
    )


def put_back(product_id: int, quantity: int) -> Update:
    """Give back to the stock."""
    return (
        update(Product)
        .where(Product.id == product_id)
        .values(stock=Product.stock + quantity)
        .execution_options(synchronize_session=False)
    )
