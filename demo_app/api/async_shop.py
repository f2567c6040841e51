"""The shop with ``async def`` endpoints, which run on the event loop, on the async engine."""

from fastapi import APIRouter, status

from demo_app import queries, schemas
from demo_app.database import AsyncDB
from demo_app.errors import conflict, conflict_if_violated, found
from demo_app.models import Customer, Order, OrderLine, OrderStatus, Product
from demo_app.schemas import CustomerAnswer, Id, OrderAnswer, PageAnswer, ProductAnswer

router = APIRouter(prefix="/async")


@router.get("/customers", response_model=PageAnswer[CustomerAnswer])
async def list_customers(db: AsyncDB, query: schemas.CustomerPageQuery) -> object:
    """List customers."""
    customers = queries.customers()
    return {
        "items": (await db.scalars(queries.page(customers, query))).all(),
        "total": await db.scalar(queries.count(customers)),
    }


@router.post("/customers", response_model=CustomerAnswer, status_code=status.HTTP_201_CREATED)
async def create_customer(db: AsyncDB, body: schemas.CustomerCreate) -> Customer:
    """Create a customer."""
    customer = Customer(**body.model_dump())
    db.add(customer)
    with conflict_if_violated(f"There is a customer with the email {body.email} already."):
        await db.flush()
    return customer


@router.get("/customers/{customer_id}", response_model=CustomerAnswer)
async def read_customer(db: AsyncDB, customer_id: Id) -> Customer:
    """Read a customer."""
    return found(await db.get(Customer, customer_id), "customer", customer_id)


@router.patch("/customers/{customer_id}", response_model=CustomerAnswer)
async def change_customer(db: AsyncDB, customer_id: Id, body: schemas.CustomerChange) -> Customer:
    """Change some fields of a customer."""
    customer = found(await db.get(Customer, customer_id), "customer", customer_id)
    body.apply(customer)
    with conflict_if_violated(f"There is a customer with the email {body.email} already."):
        await db.flush()
    return customer


@router.delete("/customers/{customer_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_customer(db: AsyncDB, customer_id: Id) -> None:
    """Delete a customer without orders."""
    await db.delete(found(await db.get(Customer, customer_id), "customer", customer_id))
    with conflict_if_violated(f"Customer {customer_id} has orders."):
        await db.flush()


@router.get("/products", response_model=PageAnswer[ProductAnswer])
async def list_products(db: AsyncDB, query: schemas.ProductPageQuery) -> object:
    """List products, all or those with a part of their name."""
    products = queries.products(query)
    return {
        "items": (await db.scalars(queries.page(products, query))).all(),
        "total": await db.scalar(queries.count(products)),
    }


@router.post("/products", response_model=ProductAnswer, status_code=status.HTTP_201_CREATED)
async def create_product(db: AsyncDB, body: schemas.ProductCreate) -> Product:
    """Create a product."""
    product = Product(**body.model_dump())
    db.add(product)
    with conflict_if_violated(f"There is a product with the SKU {body.sku} already."):
        await db.flush()
    return product


@router.get("/products/{product_id}", response_model=ProductAnswer)
async def read_product(db: AsyncDB, product_id: Id) -> Product:
    """Read a product."""
    return found(await db.get(Product, product_id), "product", product_id)


@router.patch("/products/{product_id}", response_model=ProductAnswer)
async def change_product(db: AsyncDB, product_id: Id, body: schemas.ProductChange) -> Product:
    """Change some fields of a product."""
    product = found(await db.get(Product, product_id), "product", product_id)
    body.apply(product)
    return product


@router.delete("/products/{product_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_product(db: AsyncDB, product_id: Id) -> None:
    """Delete a product that nobody has ordered."""
    await db.delete(found(await db.get(Product, product_id), "product", product_id))
    with conflict_if_violated(f"Product {product_id} has been ordered."):
        await db.flush()


@router.get("/orders", response_model=PageAnswer[OrderAnswer])
async def list_orders(db: AsyncDB, query: schemas.OrderPageQuery) -> object:
    """List orders, newest first: all, or those of a customer or in a status."""
    orders = queries.orders(query)
    return {
        "items": (await db.scalars(queries.page(orders, query))).all(),
        "total": await db.scalar(queries.count(orders)),
    }


@router.post("/orders", response_model=OrderAnswer, status_code=status.HTTP_201_CREATED)
async def create_order(db: AsyncDB, body: schemas.OrderCreate) -> Order:
    """Order products, as long as all of them are in stock."""
    order = Order(customer_id=body.customer_id, lines=[])
    for line in body.in_lock_order():
        price_cents = await db.scalar(queries.take_stock(line.product_id, line.quantity))
        if price_cents is None:
            raise conflict(f"Product {line.product_id} is unknown, or there are fewer than {line.quantity} of it.")
        order.lines.append(OrderLine(**line.model_dump(), price_cents=price_cents))
    db.add(order)
    with conflict_if_violated(f"There is no customer {body.customer_id}."):
        await db.flush()
    return order


@router.get("/orders/{order_id}", response_model=OrderAnswer)
async def read_order(db: AsyncDB, order_id: Id) -> Order:
    """Read an order with its lines."""
    return found(await db.scalar(queries.order(order_id)), "order", order_id)


@router.patch("/orders/{order_id}", response_model=OrderAnswer)
async def change_order(db: AsyncDB, order_id: Id, body: schemas.OrderChange) -> Order:
    """Move an order to its next status; a cancelled one gives its products back."""
    order = found(await db.scalar(queries.order(order_id, for_update=True)), "order", order_id)
    if not OrderStatus(order.status).may_become(body.status):
        raise conflict(f"Order {order_id} is {order.status} and cannot become {body.status}.")
    order.status = body.status
    if body.status is OrderStatus.CANCELLED:
        for line in order.lines:
            await db.execute(queries.put_back(line.product_id, line.quantity))
    return order


@router.delete("/orders/{order_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_order(db: AsyncDB, order_id: Id) -> None:
    """Delete a cancelled order."""
    order = found(await db.scalar(queries.order(order_id, for_update=True)), "order", order_id)
    if order.status != OrderStatus.CANCELLED:
        raise conflict(f"Order {order_id} is {order.status}; only a cancelled order can be deleted.")
    await db.delete(order)
