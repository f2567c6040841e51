"""Nothing is wrong here: what the same app does when all is well, and what dbwatch says then, which is nothing."""

from fastapi import APIRouter

from demo_app.database import DB
from demo_app.models import Product
from demo_app.scenarios.scenario import Load, Scenario, Variant

router = APIRouter()


@router.get("/products/{product_id}")
def read_product(product_id: int, db: DB) -> str:
    return db.get_one(Product, product_id).name


SCENARIO = Scenario(
    name="healthy",
    mistake="none: the baseline",
    look_at="short holds, no waiters, no findings",
    load=Load(("/products/1", "/products/2"), users=4),
    figure="p50",
    variants=(Variant("fixed", "as it should be", router),),
)
