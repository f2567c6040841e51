"""The lines of each order are loaded one by one: twenty orders, twenty-one statements."""

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from demo_app.database import DB
from demo_app.models import Order
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()

LATEST = select(Order).order_by(Order.id.desc()).limit(20)


@broken.get("/orders")
def list_orders_broken(db: DB) -> list[int]:
    return [len(order.lines) for order in db.scalars(LATEST)]  # dbwatch names this line


@fixed.get("/orders")
def list_orders(db: DB) -> list[int]:
    return [len(order.lines) for order in db.scalars(LATEST.options(selectinload(Order.lines)))]


SCENARIO = Scenario(
    name="n-plus-one",
    mistake="N+1 statements",
    look_at="statements a request",
    load=Load(("/orders",), users=4),
    figure="p50",
    variants=pair(broken, fixed, broken="lazy loading", fixed="selectinload"),
    findings=frozenset({"repeated_statement"}),
)
