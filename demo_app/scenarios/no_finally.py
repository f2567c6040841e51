"""The dependency closes its session, but not when the endpoint raises: each 404 costs a connection."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from sqlalchemy.orm import Session

from demo_app.database import database_of
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()


def get_db_without_finally(request: Request) -> Iterator[Session]:
    session = database_of(request).sessions()
    yield session  # An exception of the endpoint is raised here,
    session.close()  # and this is not reached.


@broken.get("/products/{product_id}")
def read_product_broken(product_id: int, db: Annotated[Session, Depends(get_db_without_finally)]) -> str:
    product = db.get(Product, product_id)  # dbwatch names this line
    if product is None:
        raise HTTPException(404)
    return product.name


def get_db_with_finally(request: Request) -> Iterator[Session]:
    session = database_of(request).sessions()
    try:
        yield session
    finally:
        session.close()


@fixed.get("/products/{product_id}")
def read_product(product_id: int, db: Annotated[Session, Depends(get_db_with_finally)]) -> str:
    product = db.get(Product, product_id)
    if product is None:
        raise HTTPException(404)
    return product.name


SCENARIO = Scenario(
    name="no-finally",
    mistake="no finally in get_db",
    look_at="all is well until somebody asks for what is not there: each such request leaks a connection",
    load=Load(("/products/1", "/products/2", "/products/3", "/products/999999"), users=8),
    figure="errors",
    variants=pair(broken, fixed, broken="close after yield", fixed="close in finally"),
    findings=frozenset({"leaked_connection"}),
)
