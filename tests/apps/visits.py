"""How a test visits an app: many clients at once against a real uvicorn, or in ways that only some apps need."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
from fastapi.testclient import TestClient

from tests.servers.asgi import serve

#: Visits an app about so many times, and asserts that it answered as it should.
Visit = Callable[[Any, int], None]

#: Clients that ask at the same time: as many as there are threads in Starlette's pool.
CLIENTS = 40


def ask(url: str, paths: Iterable[str], clients: int = CLIENTS) -> list[httpx.Response]:
    """GET all paths, ``clients`` at a time."""

    async def one_client(client: httpx.AsyncClient, left: Iterator[str], answers: list[httpx.Response]) -> None:
        answers.extend([await client.get(path) for path in left])

    async def all_clients() -> list[httpx.Response]:
        answers: list[httpx.Response] = []
        left = iter(list(paths))
        async with (
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(clients):
                group.create_task(one_client(client, left, answers))
        return answers

    return asyncio.run(all_clients())


def over_uvicorn(*paths: str, status: int = 200) -> Visit:
    """GET the paths (``/`` if none is given) in turn from many clients at once."""
    paths = paths or ("/",)

    def visit(app: Any, requests: int) -> None:
        with serve(app) as url:
            answers = ask(url, (paths[number % len(paths)] for number in range(requests)))
        assert {answer.status_code for answer in answers} == {status}

    return visit


def by_clients_that_leave(path: str) -> Visit:
    """Read the first bytes of the answer and hang up, and now and then hang up before any answer."""

    async def one(client: httpx.AsyncClient, number: int) -> None:
        if number % 5 == 0:
            try:
                async with asyncio.timeout(0.01):
                    await client.get(path)
            except TimeoutError:
                pass
            return
        async with client.stream("GET", path) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_raw():
                break

    async def all_clients(url: str, requests: int) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as client:
            for start in range(0, requests, CLIENTS):
                await asyncio.gather(*[one(client, start + number) for number in range(CLIENTS)])

    def visit(app: Any, requests: int) -> None:
        with serve(app) as url:
            asyncio.run(all_clients(url, requests))

    return visit


def by_test_client(*paths: str) -> Visit:
    """Starlette's TestClient, as an app's own tests use it: once with the app's lifespan and once without."""

    def visit(app: Any, requests: int) -> None:
        with TestClient(app) as client:
            for number in range(requests // 4):
                assert client.get(paths[number % len(paths)]).status_code == 200
        without_lifespan = TestClient(app)
        for path in paths:
            assert without_lifespan.get(path).status_code == 200

    return visit


def by_websocket(path: str) -> Visit:
    """Open websockets, exchange a message, and close them from either side."""

    def visit(app: Any, requests: int) -> None:
        with TestClient(app) as client:
            for number in range(requests // 8):
                with client.websocket_connect(path) as socket:
                    socket.send_text("count")
                    assert socket.receive_text() == "7"
                    if number % 2:
                        socket.send_text("bye")

    return visit
