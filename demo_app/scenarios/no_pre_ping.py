"""The database restarts, and the pool hands out connections that have been dead since."""

from fastapi import APIRouter

from demo_app.database import DB
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

router = APIRouter()


@router.get("/products/{product_id}")
def read_product(product_id: int, db: DB) -> str:
    return db.get_one(Product, product_id).name  # dbwatch names this line


SCENARIO = Scenario(
    name="no-pre-ping",
    mistake="pool_pre_ping missing, database restarted",
    look_at="errors right after each restart, although the database is up again",
    load=Load(("/products/1",), users=8),
    figure="errors",
    variants=pair(
        router,
        router,
        broken="pool_pre_ping=False",
        fixed="pool_pre_ping=True",
        broken_settings={"POOL_PRE_PING": "false"},
        fixed_settings={"POOL_PRE_PING": "true"},
    ),
    findings=frozenset({"stale_connection"}),
    claim="A database restart breaks an app without pre-ping.",
    restarts=True,
)
