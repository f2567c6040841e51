import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette

from tests.servers.apps import hello
from tests.servers.asgi import Loop, UvicornProcess, serve
from tests.servers.waiting import eventually


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_app_is_served_from_a_thread_on_the_loop_that_was_asked_for(loop: Loop) -> None:
    with serve(hello, loop=loop) as url:
        answer = httpx.get(url, trust_env=False).json()
    assert answer["loop"] == loop
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_the_lifespan_of_a_served_app_runs_to_its_end() -> None:
    seen = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        seen.append("startup")
        yield
        seen.append("shutdown")

    with serve(Starlette(lifespan=lifespan)):
        assert seen == ["startup"]
    assert seen == ["startup", "shutdown"]


def test_an_app_whose_startup_fails_is_not_served() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise ValueError("no configuration")
        yield

    with pytest.raises(RuntimeError, match="startup failed"), serve(Starlette(lifespan=lifespan)):
        pass


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_app_runs_in_a_process_of_its_own_with_its_environment(
    uvicorn_process: Callable[..., UvicornProcess], loop: Loop
) -> None:
    server = uvicorn_process("tests.servers.apps:hello", env={"GREETING": "moin"}, loop=loop)
    answer = httpx.get(server.url, trust_env=False).json()
    assert answer == {"pid": server.process.pid, "loop": loop, "greeting": "moin"}
    assert server.stop() in {0, -signal.SIGTERM}


def test_requests_reach_every_worker(uvicorn_process: Callable[..., UvicornProcess]) -> None:
    server = uvicorn_process("tests.servers.apps:hello", workers=2)
    pids = set()

    def both_have_answered() -> bool:
        pids.add(httpx.get(server.url, trust_env=False).json()["pid"])
        return len(pids) == 2

    eventually(both_have_answered)
    assert server.process.pid not in pids


def test_a_misspelt_app_raises_with_the_words_of_uvicorn(uvicorn_process: Callable[..., UvicornProcess]) -> None:
    with pytest.raises(RuntimeError, match='Attribute "helo" not found'):
        uvicorn_process("tests.servers.apps:helo")
