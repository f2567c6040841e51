"""Nobody commits: the client is told 201, and the database throws the row away."""

from collections.abc import Iterator
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from sqlalchemy.orm import Session

from demo_app.database import database_of
from demo_app.models import Customer
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()


def a_guest() -> Customer:
    return Customer(name="Guest", email=f"{uuid4().hex}@guests.example.org")


def get_db_without_commit(request: Request) -> Iterator[Session]:
    with database_of(request).sessions() as session:
        yield session


@broken.post("/customers", status_code=201)
def create_customer_broken(db: Annotated[Session, Depends(get_db_without_commit)]) -> int:
    customer = a_guest()
    db.add(customer)
    db.flush()  # dbwatch names this line
    return customer.id


def get_db_that_commits(request: Request) -> Iterator[Session]:
    # Commits if the endpoint returns, rolls back if it raises, closes in any case.
    with database_of(request).sessions.begin() as session:
        yield session


@fixed.post("/customers", status_code=201)
def create_customer(db: Annotated[Session, Depends(get_db_that_commits, scope="function")]) -> int:
    customer = a_guest()
    db.add(customer)
    db.flush()
    return customer.id


SCENARIO = Scenario(
    name="missing-commit",
    mistake="no commit",
    look_at="nothing looks wrong, only the rows are not there",
    load=Load(("/customers",), method="POST", users=4),
    figure="lost",
    variants=pair(broken, fixed, broken="flush, no commit", fixed="commit on success, roll back on error"),
    findings=frozenset({"lost_write"}),
)
