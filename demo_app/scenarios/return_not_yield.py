"""The dependency returns its session instead of yielding it, so nobody ever closes it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy.orm import Session

from demo_app.database import DB, database_of
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()


def get_db_by_return(request: Request) -> Session:
    return database_of(request).sessions()


@broken.get("/products/{product_id}")
def read_product_broken(product_id: int, db: Annotated[Session, Depends(get_db_by_return)]) -> str:
    return db.get_one(Product, product_id).name  # dbwatch names this line


@fixed.get("/products/{product_id}")
def read_product(product_id: int, db: DB) -> str:
    return db.get_one(Product, product_id).name


SCENARIO = Scenario(
    name="return-not-yield",
    mistake="return instead of yield in get_db",
    look_at="leaked connections fill the pool, until the garbage collector happens to find some",
    load=Load(("/products/1",), users=8),
    figure="errors",
    variants=pair(broken, fixed, broken="return the session", fixed="yield it inside with"),
    findings=frozenset({"leaked_connection"}),
    claim="return instead of yield kills the app under load.",
)
