"""The connection is held while another service is asked: the database is idle and the pool is empty."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import APIRouter, Request

from demo_app.database import AsyncDB, database_of
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, pair

SUPPLIER_SECONDS = 0.6


@asynccontextmanager
async def supplier_client(_app: object) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        yield {"supplier": client}


broken, fixed = APIRouter(lifespan=supplier_client), APIRouter(lifespan=supplier_client)


async def ask_the_supplier(request: Request, product: str) -> str:
    answer: httpx.Response = await request.state.supplier.get(
        f"{request.base_url}supplier", params={"product": product}
    )
    return answer.text


@broken.get("/delivery/{product_id}")
async def delivery_broken(product_id: int, request: Request, db: AsyncDB) -> str:
    product = await db.get_one(Product, product_id)  # dbwatch names this line
    return await ask_the_supplier(request, product.name)


@fixed.get("/delivery/{product_id}")
async def delivery(product_id: int, request: Request) -> str:
    async with database_of(request).async_sessions() as db:
        product = await db.get_one(Product, product_id)
    return await ask_the_supplier(request, product.name)  # The connection is back in the pool.


@broken.get("/supplier")
@fixed.get("/supplier")
async def answer_as_the_supplier(product: str) -> str:
    """The other service, which takes its time."""
    await asyncio.sleep(SUPPLIER_SECONDS)
    return f"{product}: tomorrow"


SCENARIO = Scenario(
    name="http-call",
    mistake="connection held during an HTTP call",
    look_at="the pool is empty while the database has nothing to do: the holders are idle",
    load=Load(("/delivery/1",), rate=30),
    figure="p50",
    variants=pair(broken, fixed, broken="call inside the session", fixed="call after the session"),
    findings=frozenset({"idle_hold"}),
)
