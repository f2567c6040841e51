"""A hundred requests a second, each holding its connection for 200 ms: on average twenty connections are in use."""

from fastapi import APIRouter
from sqlalchemy import text

from demo_app.database import AsyncDB
from demo_app.scenarios.scenario import Load, Scenario, Variant

router = APIRouter()

REPORT = text("SELECT count(*) FROM demo_orders, pg_sleep(0.2)")


@router.get("/report")
async def report(db: AsyncDB) -> int:
    return int((await db.execute(REPORT)).scalar_one())  # dbwatch names this line


SCENARIO = Scenario(
    name="pool-too-small",
    mistake="a pool of 15 where 20 are needed on average",
    look_at="waiters grow at 15; 20 are saturated, because arrivals come in bursts; 30 are enough",
    load=Load(("/report",), rate=100),
    figure="p50",
    variants=(
        Variant("broken", "5 + 10", router, {"POOL_SIZE": "5", "MAX_OVERFLOW": "10"}),
        Variant("saturated", "20", router, {"POOL_SIZE": "20", "MAX_OVERFLOW": "0"}),
        Variant("fixed", "30", router, {"POOL_SIZE": "30", "MAX_OVERFLOW": "0"}),
    ),
    findings=frozenset({"slow_checkout", "checkout_timeout"}),
    claim="100 requests a second that hold 200 ms need about 20 connections.",
    apart=True,
)
