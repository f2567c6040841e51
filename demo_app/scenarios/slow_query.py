"""A condition that no index serves: each request reads the whole table, and the pool is empty for want of speed."""

from fastapi import APIRouter
from sqlalchemy import text
from sqlalchemy.orm import Session

from demo_app.database import AsyncDB
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()

ARCHIVE = text(
    "CREATE TABLE IF NOT EXISTS demo_archive AS "
    "SELECT 'customer' || n || '@example.org' AS email FROM generate_series(1, 300000) AS n"
)
_TWO_CONNECTIONS = {"POOL_SIZE": "2", "MAX_OVERFLOW": "0"}


def create_archive(session: Session) -> None:
    session.execute(ARCHIVE)
    session.execute(text("CREATE UNIQUE INDEX IF NOT EXISTS demo_archive_email ON demo_archive (email)"))
    session.execute(text("ANALYZE demo_archive"))


@broken.get("/archive/{email}")
async def search_broken(email: str, db: AsyncDB) -> int:
    search = text("SELECT count(*) FROM demo_archive WHERE lower(email) = lower(:email)")
    return int((await db.execute(search, {"email": email})).scalar_one())  # dbwatch names this line


@fixed.get("/archive/{email}")
async def search_by_index(email: str, db: AsyncDB) -> int:
    search = text("SELECT count(*) FROM demo_archive WHERE email = lower(:email)")
    return int((await db.execute(search, {"email": email})).scalar_one())


SCENARIO = Scenario(
    name="slow-query",
    mistake="a query that no index serves",
    look_at="holders that execute all the time: a larger pool would only make the database slower",
    load=Load(("/archive/Customer77@example.org",), rate=100),
    figure="p50",
    variants=pair(
        broken,
        fixed,
        broken="lower(email) = …",
        fixed="email = …",
        broken_settings=_TWO_CONNECTIONS,
        fixed_settings=_TWO_CONNECTIONS,
    ),
    findings=frozenset({"slow_checkout", "checkout_timeout"}),
    setup=create_archive,
)
