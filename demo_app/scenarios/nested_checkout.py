"""A second session while the first holds its connection: enough such requests at once all wait for each other."""

from fastapi import APIRouter, Request
from sqlalchemy import text

from demo_app.database import DB, database_of
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()

COUNT_VISIT = text("SELECT count(*) FROM demo_orders WHERE id = :product")


def count_visit(request: Request, product_id: int) -> None:
    with database_of(request).sessions() as session:
        session.execute(COUNT_VISIT, {"product": product_id})  # dbwatch names this line


@broken.get("/products/{product_id}")
def read_product_broken(product_id: int, request: Request, db: DB) -> str:
    product = db.get_one(Product, product_id)
    count_visit(request, product_id)
    return product.name


@fixed.get("/products/{product_id}")
def read_product(product_id: int, db: DB) -> str:
    product = db.get_one(Product, product_id)
    db.execute(COUNT_VISIT, {"product": product_id})
    return product.name


SCENARIO = Scenario(
    name="nested-checkout",
    mistake="a second connection while holding one",
    look_at="holders that wait for a connection themselves: nothing moves until the pool's timeout",
    load=Load(("/products/1",), users=24),
    figure="errors",
    variants=pair(broken, fixed, broken="a session inside a session", fixed="one session"),
    findings=frozenset({"nested_checkout"}),
)
