"""The data that the shop starts with."""

import random

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from demo_app.models import Customer, Order, OrderLine, OrderStatus, Product

CUSTOMERS = 200
PRODUCTS = 100
ORDERS = 500

_FIRST_NAMES = ("Ada", "Barbara", "Edgar", "Grace", "Jim", "Margaret", "Niklaus", "Radia", "Tony", "Vint")
_LAST_NAMES = ("Codd", "Gray", "Hamilton", "Hoare", "Hopper", "Liskov", "Lovelace", "Perlman", "Wirth", "Cerf")
_MATERIALS = ("Brass", "Copper", "Cotton", "Glass", "Leather", "Linen", "Oak", "Steel", "Stone", "Walnut")
_THINGS = ("Bowl", "Chair", "Clock", "Cup", "Desk", "Knife", "Lamp", "Ring", "Shelf", "Table")


def seed(session: Session) -> None:
    """Fill an empty shop, always with the same data; leave another as it is."""
    if session.scalar(select(func.count()).select_from(Customer)):
        return
    chance = random.Random(1970)  # noqa: S311
    session.execute(insert(Customer), [_customer(number, chance) for number in range(1, CUSTOMERS + 1)])
    session.execute(insert(Product), [_product(number, chance) for number in range(PRODUCTS)])
    customer_ids = session.scalars(select(Customer.id)).all()
    products = session.execute(select(Product.id, Product.price_cents)).all()
    for _ in range(ORDERS):
        chosen = chance.sample(products, chance.randint(1, 4))
        lines = [OrderLine(product_id=id_, price_cents=price, quantity=chance.randint(1, 5)) for id_, price in chosen]
        session.add(
            Order(customer_id=chance.choice(customer_ids), status=chance.choice(list(OrderStatus)), lines=lines)
        )


def _customer(number: int, chance: random.Random) -> dict[str, object]:
    first, last = chance.choice(_FIRST_NAMES), chance.choice(_LAST_NAMES)
    return {"name": f"{first} {last}", "email": f"{first}.{last}.{number}@example.org".lower()}


def _product(number: int, chance: random.Random) -> dict[str, object]:
    material, thing = _MATERIALS[number // len(_THINGS)], _THINGS[number % len(_THINGS)]
    return {
        "sku": f"{material}-{thing}".upper(),
        "name": f"{material} {thing.lower()}",
        "price_cents": chance.randint(2, 200) * 50,
        "stock": chance.randint(500, 5000),
    }
