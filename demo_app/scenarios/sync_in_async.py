"""A sync session in ``async def``: its statement runs on the event loop, which serves nobody else meanwhile."""

from fastapi import APIRouter
from sqlalchemy import text

from demo_app.database import DB, AsyncDB
from demo_app.scenarios.scenario import Load, Scenario, Variant

broken, plain_def, async_driver = APIRouter(), APIRouter(), APIRouter()

#: A report for which the database needs 20 ms.
REPORT = text("SELECT count(*) FROM demo_orders, pg_sleep(0.02)")


@broken.get("/report")
async def report_broken(db: DB) -> int:
    return int(db.execute(REPORT).scalar_one())  # dbwatch names this line


@plain_def.get("/report")
def report_in_a_thread(db: DB) -> int:
    return int(db.execute(REPORT).scalar_one())


@async_driver.get("/report")
async def report(db: AsyncDB) -> int:
    return int((await db.execute(REPORT)).scalar_one())


SCENARIO = Scenario(
    name="sync-in-async",
    mistake="sync session in async def",
    look_at="every route is slow, those without a database too, and the pool is nearly unused",
    load=Load(("/report",), users=10),
    figure="bystander",
    variants=(
        Variant("broken", "sync session in async def", broken),
        Variant("plain-def", "sync session in def", plain_def),
        Variant("fixed", "async driver in async def", async_driver),
    ),
    findings=frozenset({"blocked_event_loop"}),
    claim="One sync session in async def blocks everyone.",
)
