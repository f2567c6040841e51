"""The page of a server with several workers: it shows all of them, whoever answers."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.live.conftest import Shop
from tests.live.viewer import Viewer
from tests.servers.waiting import eventually

WORKERS = 4


def connection(shop: Shop) -> httpx.Client:
    """A connection that is kept, and with it the worker that took it."""
    return httpx.Client(base_url=shop.url, timeout=60.0, limits=httpx.Limits(keepalive_expiry=60.0))


@pytest.fixture
def clients(start_shop: Callable[..., Shop]) -> Iterator[tuple[Shop, dict[int, httpx.Client]]]:
    """A shop with four workers, and a kept connection to each of them."""
    shop = start_shop(workers=WORKERS)
    clients: dict[int, httpx.Client] = {}
    with ExitStack() as stack:

        def one_each() -> bool:
            client = stack.enter_context(connection(shop))
            clients.setdefault(client.get("/whoami").json(), client)
            return len(clients) == WORKERS

        eventually(one_each)
        yield shop, clients


def test_holders_of_all_workers_are_listed_and_a_killed_worker_goes(
    clients: tuple[Shop, dict[int, httpx.Client]], look: Callable[..., Viewer]
) -> None:
    shop, by_worker = clients
    viewer = look(shop)
    for client in by_worker.values():
        shop.ask("/search?seconds=40", client)
    viewer.wait_until("count => document.querySelectorAll('#holders tbody tr').length === count", argument=WORKERS)
    assert {int(pid) for pid in viewer.column("holders", "worker")} == set(by_worker)
    assert viewer.page.locator(".workers li").count() == WORKERS
    assert "Healthy in all 4 workers: 4 of 60 connections used" in viewer.verdict.inner_text()

    killed = next(iter(by_worker))
    os.kill(killed, signal.SIGKILL)
    viewer.wait_until(
        "pid => ![...document.querySelectorAll('#holders td.worker')].some(td => td.textContent === pid)",
        argument=str(killed),
    )
    assert {int(pid) for pid in viewer.column("holders", "worker")} == set(by_worker) - {killed}
    viewer.errors.clear()  # it may have been the one that answered


def test_every_worker_answers_for_all_of_them(clients: tuple[Shop, dict[int, httpx.Client]]) -> None:
    _, by_worker = clients
    for client in by_worker.values():
        state = client.get("/dbwatch/api/state").json()
        assert {worker["pid"] for worker in state["workers"]} == set(by_worker)
        assert state["pools"][0]["now"]["limit"] == 15 * WORKERS
        assert {share["pid"] for share in state["pools"][0]["workers"]} == set(by_worker)


def test_the_verdict_is_that_of_the_worker_that_is_worst_off(clients: tuple[Shop, dict[int, httpx.Client]]) -> None:
    shop, by_worker = clients
    pid, client = next(iter(by_worker.items()))
    with ExitStack() as stack:
        # Connections to the same worker: those that the kernel gives to another one are let go.
        same: list[httpx.Client] = []

        def enough() -> bool:
            other = stack.enter_context(connection(shop))
            if other.get("/whoami").json() == pid:
                same.append(other)
            return len(same) == 16

        eventually(enough)
        for one in same:
            shop.ask("/reports?seconds=6", one)

        def in_trouble() -> str:
            text: str = client.get("/dbwatch/api/state").json()["pools"][0]["verdict"]["text"]
            return text if "waiting, oldest" in text else ""

        text = eventually(in_trouble)
    assert text.startswith(f"Worker {pid}: 1 request waiting")
    assert "15 of 15 idle in GET /reports" in text
