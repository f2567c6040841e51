"""Overflow connections are closed when they come back: with a small size, nearly every request opens a new one."""

from fastapi import APIRouter

from demo_app.database import AsyncDB
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

router = APIRouter()


@router.get("/products/{product_id}")
async def read_product(product_id: int, db: AsyncDB) -> str:
    return (await db.get_one(Product, product_id)).name


SCENARIO = Scenario(
    name="overflow-churn",
    mistake="pool_size=1, max_overflow=14",
    look_at="connections opened and closed all the time, the reason is overflow",
    load=Load(("/products/1",), users=8),
    figure="opened",
    variants=pair(
        router,
        router,
        broken="1 + 14",
        fixed="15 + 0",
        broken_settings={"POOL_SIZE": "1", "MAX_OVERFLOW": "14"},
        fixed_settings={"POOL_SIZE": "15", "MAX_OVERFLOW": "0"},
    ),
    advice="max_overflow",
    claim="A new connection costs 10 to 50 ms.",
)
