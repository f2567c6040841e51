"""The dependency creates an engine in every request, and with it an empty pool and a new connection."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from demo_app.database import DB, database_of
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()


def get_db_of_a_new_engine(request: Request) -> Iterator[Session]:
    engine = create_engine(database_of(request).engine.url)  # dbwatch names this line
    with Session(engine) as session:
        yield session


@broken.get("/products/{product_id}")
def read_product_broken(product_id: int, db: Annotated[Session, Depends(get_db_of_a_new_engine)]) -> str:
    return db.get_one(Product, product_id).name


@fixed.get("/products/{product_id}")
def read_product(product_id: int, db: DB) -> str:
    return db.get_one(Product, product_id).name


SCENARIO = Scenario(
    name="engine-per-request",
    mistake="create_engine inside the dependency",
    look_at="connections opened: as many as requests, and each of them is thrown away",
    load=Load(("/products/1",), users=4),
    figure="p50",
    variants=pair(broken, fixed, broken="an engine in each request", fixed="one engine"),
    findings=frozenset({"engine_per_request"}),
    claim="A misused Depends doubled the response times; one engine halved them.",
)
