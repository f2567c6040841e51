from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from demo_app.postgres import EmbeddedPostgres
from demo_app.seed import CUSTOMERS, ORDERS, PRODUCTS
from tests.demo.conftest import EmptyDatabase, client, shop_app
from tests.servers.asgi import serve
from tests.servers.waiting import eventually

ADA = {"name": "Ada", "email": "ada@example.org"}
KITE = {"sku": "KITE-1", "name": "Paper kite", "price_cents": 700, "stock": 3}


def create(shop: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = shop.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def an_order(shop: httpx.Client, **quantities: int) -> dict[str, Any]:
    """The body of an order of the kite, and of product 1 if so wished."""
    kite = create(shop, "/products", KITE)["id"]
    products = {"kites": kite, "others": 1}
    lines = [{"product_id": products[name], "quantity": quantity} for name, quantity in quantities.items()]
    return {"customer_id": 1, "lines": lines}


def test_a_new_shop_has_customers_products_and_orders(standing_shop: httpx.Client) -> None:
    totals = [standing_shop.get(path).json()["total"] for path in ("/customers", "/products", "/orders")]
    assert totals == [CUSTOMERS, PRODUCTS, ORDERS]


def test_a_customer_is_created_read_changed_and_deleted(shop: httpx.Client) -> None:
    created = create(shop, "/customers", ADA)
    path = f"/customers/{created['id']}"
    assert shop.get(path).json() == created == {"id": created["id"], **ADA}
    changed = shop.patch(path, json={"name": "Ada L."})
    assert changed.json() == shop.get(path).json() == {**created, "name": "Ada L."}
    assert shop.delete(path).status_code == 204
    assert shop.get(path).status_code == 404


def test_a_product_is_created_read_changed_and_deleted(shop: httpx.Client) -> None:
    created = create(shop, "/products", KITE)
    path = f"/products/{created['id']}"
    assert shop.get(path).json() == created == {"id": created["id"], **KITE}
    changed = shop.patch(path, json={"price_cents": 900, "stock": 0})
    assert changed.json() == shop.get(path).json() == {**created, "price_cents": 900, "stock": 0}
    assert shop.delete(path).status_code == 204
    assert shop.get(path).status_code == 404


def test_an_order_takes_from_the_stock_and_keeps_the_price_of_its_day(shop: httpx.Client) -> None:
    order = create(shop, "/orders", an_order(shop, kites=2))
    kite = f"/products/{order['lines'][0]['product_id']}"
    assert shop.get(kite).json()["stock"] == 1
    shop.patch(kite, json={"price_cents": 100})
    assert shop.get(f"/orders/{order['id']}").json()["total_cents"] == order["total_cents"] == 1400


def test_a_cancelled_order_gives_back_what_it_took_and_can_be_deleted(shop: httpx.Client) -> None:
    order = create(shop, "/orders", an_order(shop, kites=3))
    path = f"/orders/{order['id']}"
    assert shop.delete(path).status_code == 409
    assert shop.patch(path, json={"status": "cancelled"}).json()["status"] == "cancelled"
    assert shop.get(f"/products/{order['lines'][0]['product_id']}").json()["stock"] == 3
    assert shop.delete(path).status_code == 204
    assert shop.get(path).status_code == 404


def test_an_order_goes_from_pending_to_paid_to_shipped_and_no_other_way(shop: httpx.Client) -> None:
    path = f"/orders/{create(shop, '/orders', an_order(shop, kites=1))['id']}"
    statuses = ["shipped", "pending", "paid", "pending", "shipped", "cancelled"]
    answers = [shop.patch(path, json={"status": status}).status_code for status in statuses]
    assert answers == [409, 409, 200, 409, 200, 409]


def test_an_order_that_fails_half_way_takes_nothing(shop: httpx.Client) -> None:
    before = shop.get("/products/1").json()["stock"]
    answer = shop.post("/orders", json=an_order(shop, others=1, kites=4))
    assert answer.status_code == 409
    assert "fewer than 4" in answer.json()["detail"]
    assert shop.get("/products/1").json()["stock"] == before
    assert shop.get("/orders").json()["total"] == ORDERS


def test_only_as_many_simultaneous_orders_succeed_as_there_are_pieces(shop: httpx.Client) -> None:
    body = an_order(shop, kites=1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shop.post("/orders", json=body).status_code, range(8)))
    assert sorted(answers) == [201] * 3 + [409] * 5


def test_lists_come_in_pages_that_together_are_the_whole(standing_shop: httpx.Client) -> None:
    pages = [
        standing_shop.get("/products", params={"limit": 30, "offset": offset}).json()
        for offset in range(0, PRODUCTS, 30)
    ]
    assert [len(page["items"]) for page in pages] == [30, 30, 30, 10]
    assert {page["total"] for page in pages} == {PRODUCTS}
    assert len({product["id"] for page in pages for product in page["items"]}) == PRODUCTS


def test_lists_are_filtered(shop: httpx.Client) -> None:
    lamps = shop.get("/products", params={"name": "LAMP"}).json()
    assert lamps["total"] == len(lamps["items"]) == 10
    assert all("lamp" in product["name"] for product in lamps["items"])
    assert shop.get("/products", params={"name": "%"}).json()["total"] == 0
    create(shop, "/orders", {"customer_id": 7, "lines": [{"product_id": 1, "quantity": 1}]})
    pending = shop.get("/orders", params={"customer_id": 7, "status": "pending", "limit": 100}).json()
    assert pending["total"] == len(pending["items"]) >= 1
    assert {(order["customer_id"], order["status"]) for order in pending["items"]} == {(7, "pending")}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/customers/999999", None),
        ("PATCH", "/customers/999999", {"name": "Nobody"}),
        ("DELETE", "/customers/999999", None),
        ("GET", "/products/999999", None),
        ("PATCH", "/products/999999", {"stock": 1}),
        ("DELETE", "/products/999999", None),
        ("GET", "/orders/999999", None),
        ("PATCH", "/orders/999999", {"status": "paid"}),
        ("DELETE", "/orders/999999", None),
    ],
)
def test_what_does_not_exist_is_not_found(standing_shop: httpx.Client, method: str, path: str, body: object) -> None:
    answer = standing_shop.request(method, path, json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"There is no {path.split('/')[1].removesuffix('s')} 999999."


def test_what_the_data_forbid_is_a_conflict(shop: httpx.Client) -> None:
    create(shop, "/customers", ADA)
    other = create(shop, "/customers", {"name": "Grace", "email": "grace@example.org"})
    create(shop, "/products", KITE)
    with_orders = shop.get("/orders").json()["items"][0]
    nobody = {"customer_id": 999999, "lines": [{"product_id": 1, "quantity": 1}]}
    answers = [
        shop.post("/customers", json=ADA),
        shop.patch(f"/customers/{other['id']}", json={"email": ADA["email"]}),
        shop.delete(f"/customers/{with_orders['customer_id']}"),
        shop.post("/products", json=KITE),
        shop.delete(f"/products/{with_orders['lines'][0]['product_id']}"),
        shop.post("/orders", json=nobody),
    ]
    assert [answer.status_code for answer in answers] == [409] * 6, [answer.text for answer in answers]
    assert shop.get(f"/customers/{other['id']}").json() == other


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/products?limit=0", None),
        ("GET", "/products?limit=101", None),
        ("GET", "/products?offset=-1", None),
        ("GET", "/products?colour=red", None),
        ("GET", "/products?name=%00", None),
        ("GET", "/orders?status=lost", None),
        ("GET", "/customers/ada", None),
        ("GET", "/customers/99999999999", None),
        ("POST", "/customers", {"name": "Ada", "email": "nowhere"}),
        ("POST", "/customers", {"name": "", "email": "ada@example.org"}),
        ("POST", "/customers", {"name": "A\0", "email": "ada@example.org"}),
        ("PATCH", "/customers/1", {}),
        ("PATCH", "/customers/1", {"name": None}),
        ("PATCH", "/customers/1", {"id": 2}),
        ("PATCH", "/products/1", {"stock": -1}),
        ("PATCH", "/products/1", {"stock": 2**31}),
        ("POST", "/orders", {"customer_id": 1, "lines": []}),
        ("POST", "/orders", {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 0}]}),
        ("POST", "/orders", {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 1}] * 2}),
    ],
)
def test_malformed_requests_are_refused(standing_shop: httpx.Client, method: str, path: str, body: object) -> None:
    assert standing_shop.request(method, path, json=body).status_code == 422


def test_both_sets_of_endpoints_offer_the_same(empty_database: EmptyDatabase) -> None:
    with serve(shop_app(empty_database())) as url, client(url) as anonymous:
        paths = anonymous.get("/openapi.json").json()["paths"]
        assert anonymous.get("/health").json() == {"status": "ok"}
    offered: dict[str, dict[str, Any]] = {"sync": {}, "async": {}}
    for path, operations in paths.items():
        _, kind, rest = path.split("/", 2)
        for method, operation in operations.items():
            del operation["operationId"]
            assert operation.pop("tags") == [kind]
            offered[kind][f"{method} {rest}"] = operation
    assert offered["sync"] == offered["async"]
    assert len(offered["sync"]) == 15


def test_both_sets_of_endpoints_give_the_same_answers(empty_database: EmptyDatabase) -> None:
    def conversation(prefix: str) -> list[tuple[int, str]]:
        with serve(shop_app(empty_database())) as url, client(url + prefix) as shop:
            order = {"customer_id": 3, "lines": [{"product_id": 9, "quantity": 2}, {"product_id": 4, "quantity": 1}]}
            answers = [
                shop.get("/customers?limit=3&offset=10"),
                shop.post("/customers", json=ADA),
                shop.post("/customers", json=ADA),
                shop.post("/customers", json={"name": "Ada"}),
                shop.patch("/customers/201", json={"email": "lovelace@example.org"}),
                shop.patch("/products/5", json={"stock": 0}),
                shop.get("/products?name=chair"),
                shop.post("/products", json=KITE),
                shop.post("/orders", json=order),
                shop.post("/orders", json={**order, "customer_id": 0}),
                shop.get("/orders/501"),
                shop.patch("/orders/501", json={"status": "paid"}),
                shop.patch("/orders/501", json={"status": "cancelled"}),
                shop.get("/orders?limit=1"),
                shop.delete("/orders/501"),
                shop.delete("/orders/501"),
                shop.delete("/products/101"),
                shop.delete("/customers/3"),
            ]
        return [(answer.status_code, _without_times(answer)) for answer in answers]

    sync, asynchronous = conversation("/sync"), conversation("/async")
    assert sync == asynchronous
    assert [status for status, _ in sync] == [
        *(200, 201, 409, 422, 200, 200, 200, 201, 201, 422, 200, 200, 200, 200, 204, 404, 204, 409)
    ]


def _without_times(answer: httpx.Response) -> str:
    if not answer.content:
        return ""
    body = answer.json()
    for order in [body, *body.get("items", [])]:
        order.pop("placed_at", None)
    return repr(body)


@pytest.mark.parametrize("prefix", ["/sync", "/async"])
def test_what_is_answered_is_committed(empty_database: EmptyDatabase, prefix: str) -> None:
    """The other engine reads it at once: the transaction ends before the response is sent, not after."""
    with serve(shop_app(empty_database())) as url, client(url) as anonymous:
        other = {"/sync": "/async", "/async": "/sync"}[prefix]
        for number in range(5):
            created = create(anonymous, f"{prefix}/customers", {"name": "Ada", "email": f"ada{number}@example.org"})
            assert anonymous.get(f"{other}/customers/{created['id']}").status_code == 200


def test_the_shop_is_unavailable_while_its_database_is_down_and_well_again_afterwards() -> None:
    with EmbeddedPostgres() as server, serve(shop_app(server.url())) as url, client(url) as anonymous:
        for prefix in ("/sync", "/async"):
            assert anonymous.get(f"{prefix}/products/1").status_code == 200
        server.stop("immediate")
        for prefix in ("/sync", "/async"):
            answer = anonymous.get(f"{prefix}/products/1")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), answer.text
        server.start()
        eventually(lambda: anonymous.get("/sync/products/1").status_code == 200)
        eventually(lambda: anonymous.get("/async/products/1").status_code == 200)


def test_a_second_start_finds_the_data_of_the_first(database_url: str) -> None:
    with serve(shop_app(database_url)) as url, client(url) as anonymous:
        created = create(anonymous, "/sync/customers", ADA)
    with serve(shop_app(database_url)) as url, client(url) as anonymous:
        assert anonymous.get(f"/async/customers/{created['id']}").json() == created
        assert anonymous.get("/sync/customers").json()["total"] == CUSTOMERS + 1
