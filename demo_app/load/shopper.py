"""What a user of the shop does."""

import random
from functools import cached_property
from typing import Any, ClassVar
from uuid import uuid4

from locust import FastHttpUser, task
from locust.exception import RescheduleTask

#: A user with this many orders of its own deletes before it orders again, so that the tables do not grow for ever.
_MOST_ORDERS = 20

_chance = random.Random()  # noqa: S311


class Shopper(FastHttpUser):
    """Browses, orders, changes its mind and mistypes; a task is one request, to the sync or the async endpoint.

    A user changes only what it has created, so it knows how each request must be answered and what each costs.
    """

    network_timeout = 30.0
    connection_timeout = 5.0
    #: How often a user sends a request; at most, because it waits for the answer.
    requests_per_second: ClassVar[float] = 1.0

    def on_start(self) -> None:
        """Begin with nothing."""
        self.customers: list[int] = []
        self.pending: list[int] = []
        self.cancelled: list[int] = []
        self.new_products: list[int] = []

    @cached_property
    def products(self) -> list[int]:
        """What there is to buy, asked for once."""
        return [item["id"] for item in self._send("GET", "/products", query="?limit=100")["items"]]

    @cached_property
    def customer(self) -> int:
        """The customer as whom this user is registered, on its first need."""
        return self._create_customer()

    def wait_time(self) -> float:
        """Seconds between two requests: exponential, as with people who do not know of each other."""
        return _chance.expovariate(self.requests_per_second)

    @task(20)
    def browse(self) -> None:
        self._send("GET", "/products", query=f"?limit=20&offset={_chance.randrange(0, 80, 20)}")

    @task(8)
    def search(self) -> None:
        self._send("GET", "/products", query=f"?name={_chance.choice(('oak', 'lamp', 'steel', 'table'))}")

    @task(20)
    def look_at_product(self) -> None:
        self._send("GET", "/products/{product_id}", _chance.choice(self.products))

    @task(5)
    def list_customers(self) -> None:
        self._send("GET", "/customers", query="?limit=10")

    @task(5)
    def read_customer(self) -> None:
        self._send("GET", "/customers/{customer_id}", self.customer)

    @task(8)
    def list_orders(self) -> None:
        self._send("GET", "/orders", query=_chance.choice(("", "?status=paid", f"?customer_id={self.customer}")))

    @task(8)
    def read_order(self) -> None:
        if self.pending:
            self._send("GET", "/orders/{order_id}", _chance.choice(self.pending))
        else:
            self.order()

    @task(8)
    def order(self) -> None:
        if len(self.pending) >= _MOST_ORDERS:
            self.cancel_order()
            return
        products = _chance.sample(self.products, _chance.randint(1, 3))
        lines = [{"product_id": product, "quantity": 1} for product in products]
        order = self._send("POST", "/orders", json={"customer_id": self.customer, "lines": lines}, expect=201)
        self.pending.append(order["id"])

    @task(4)
    def cancel_order(self) -> None:
        if self.pending:
            order_id = self.pending.pop()
            self._send("PATCH", "/orders/{order_id}", order_id, json={"status": "cancelled"})
            self.cancelled.append(order_id)
        else:
            self.order()

    @task(4)
    def delete_order(self) -> None:
        if self.cancelled:
            self._send("DELETE", "/orders/{order_id}", self.cancelled.pop(), expect=204)
        else:
            self.cancel_order()

    @task(3)
    def change_customer(self) -> None:
        self._send("PATCH", "/customers/{customer_id}", self.customer, json={"name": f"Shopper {_code()}"})

    @task(2)
    def create_or_delete_customer(self) -> None:
        if self.customers:
            self._send("DELETE", "/customers/{customer_id}", self.customers.pop(), expect=204)
        else:
            self.customers.append(self._create_customer())

    @task(2)
    def create_or_delete_product(self) -> None:
        if self.new_products:
            self._send("DELETE", "/products/{product_id}", self.new_products.pop(), expect=204)
        else:
            product = {"sku": f"NEW-{_code().upper()}", "name": "Paper kite", "price_cents": 700, "stock": 3}
            self.new_products.append(self._send("POST", "/products", json=product, expect=201)["id"])

    @task(2)
    def change_price(self) -> None:
        if self.new_products:
            price = {"price_cents": _chance.randint(500, 900)}
            self._send("PATCH", "/products/{product_id}", self.new_products[-1], json=price)
        else:
            self.create_or_delete_product()

    @task(2)
    def order_too_much(self) -> None:
        line = {"product_id": _chance.choice(self.products), "quantity": 10_000}
        self._send("POST", "/orders", json={"customer_id": self.customer, "lines": [line]}, expect=409)

    @task(2)
    def order_nothing(self) -> None:
        self._send("POST", "/orders", json={"customer_id": self.customer, "lines": []}, expect=422)

    @task(1)
    def mistype_email(self) -> None:
        self._send("POST", "/customers", json={"name": "Shopper", "email": "not an address"}, expect=422)

    @task(2)
    def follow_old_link(self) -> None:
        self._send("GET", "/products/{product_id}", 2**31 - 1, expect=404)

    @task(1)
    def guess_address(self) -> None:
        self._request("GET", f"/{_code()}", "(unmatched)", expect=404, checkouts=0)

    def _create_customer(self) -> int:
        code = _code()
        body = {"name": f"Shopper {code}", "email": f"{code}@shoppers.example.org"}
        customer_id: int = self._send("POST", "/customers", json=body, expect=201)["id"]
        return customer_id

    def _send(
        self,
        method: str,
        path: str,
        row_id: int | None = None,
        *,
        query: str = "",
        json: object = None,
        expect: int = 200,
    ) -> Any:
        """Send a request to one of the two sets of endpoints; every route takes one connection, unless it refuses."""
        route = _chance.choice(("/sync", "/async")) + path
        address = (route if row_id is None else f"{route.partition('{')[0]}{row_id}") + query
        return self._request(method, address, route, json=json, expect=expect, checkouts=0 if expect == 422 else 1)

    def _request(
        self, method: str, address: str, route: str, *, expect: int, checkouts: int, json: object = None
    ) -> Any:
        """Send a request and return the body of the answer. Ends the task if the answer is not the expected one."""
        with self.client.request(
            method, address, name=route, json=json, catch_response=True, context={"checkouts": checkouts}
        ) as response:
            if response.status_code == expect:
                response.success()
                return response.json() if response.content else None
            response.failure(f"{response.status_code} instead of {expect}")
        raise RescheduleTask


def _code() -> str:
    """A name that nobody else uses."""
    return uuid4().hex[:12]
