"""One session for the whole app: its requests share one connection and one transaction, and the first error is
everybody's from then on."""

from functools import cache

from fastapi import APIRouter, HTTPException, Request
from sqlalchemy import select
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from demo_app.database import DB, Database, database_of
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()


@cache  # The same as `session = Session(engine)` in a module.
def global_session(database: Database) -> Session:
    return database.sessions()


@broken.get("/products/{product_id}/share")
def share_broken(product_id: int, people: int, request: Request) -> int:
    share = select(Product.price_cents / people).where(Product.id == product_id)
    try:
        return int(global_session(database_of(request)).scalar(share) or 0)  # dbwatch names this line
    except DataError:  # Nobody rolls back: the transaction that all share is broken for good.
        raise HTTPException(422, "Nobody is to pay.") from None


@fixed.get("/products/{product_id}/share")
def share(product_id: int, people: int, db: DB) -> int:
    share = select(Product.price_cents / people).where(Product.id == product_id)
    try:
        return int(db.scalar(share) or 0)
    except DataError:  # The exception reaches get_db, which rolls back this request's own transaction.
        raise HTTPException(422, "Nobody is to pay.") from None


SCENARIO = Scenario(
    name="global-session",
    mistake="one session for all requests",
    look_at="after the first error of one request all others fail, and one connection is never given back",
    load=Load(("/products/1/share?people=2", "/products/2/share?people=3", "/products/3/share?people=0"), users=8),
    figure="errors",
    variants=pair(broken, fixed, broken="a session in the module", fixed="a session for each request"),
    findings=frozenset({"shared_session"}),
)
