"""The session of a dependency lives until the background tasks are done, long after the client has its answer."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends
from sqlalchemy.ext.asyncio import AsyncSession

from demo_app.database import get_async_db
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

broken, fixed = APIRouter(), APIRouter()

MAIL_SECONDS = 0.6


async def send_mail(_text: str) -> None:
    await asyncio.sleep(MAIL_SECONDS)


@broken.post("/reminders/{product_id}", status_code=202)
async def remind_broken(
    product_id: int, tasks: BackgroundTasks, db: Annotated[AsyncSession, Depends(get_async_db)]
) -> None:
    product = await db.get_one(Product, product_id)  # dbwatch names this line
    tasks.add_task(send_mail, product.name)


# With scope="function" the session is closed when the endpoint returns: before the response, before the mail.
@fixed.post("/reminders/{product_id}", status_code=202)
async def remind(
    product_id: int, tasks: BackgroundTasks, db: Annotated[AsyncSession, Depends(get_async_db, scope="function")]
) -> None:
    product = await db.get_one(Product, product_id)
    tasks.add_task(send_mail, product.name)


SCENARIO = Scenario(
    name="background-task",
    mistake="connection held through a background task",
    look_at="answers come at once, and yet the pool runs dry: the holders have answered long ago",
    load=Load(("/reminders/1",), method="POST", rate=40),
    figure="p50",
    variants=pair(broken, fixed, broken="Depends(get_db)", fixed='Depends(get_db, scope="function")'),
    findings=frozenset({"idle_hold"}),
)
