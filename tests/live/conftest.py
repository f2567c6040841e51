"""A shop under load with its live page, and a browser to look at it."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from demo_app.postgres import EmbeddedPostgres
from tests.conftest import cannot_run
from tests.live.viewer import CHROMIUM_OPTIONS, Viewer
from tests.servers.asgi import UvicornProcess
from tests.servers.ports import free_port
from tests.servers.program import MissingProgramError, find_program

#: Part of the database's URL; must never be seen.
PASSWORD = "hunter2"


class Shop:
    """The shop in processes of its own, on a port it keeps when it is restarted."""

    def __init__(self, database_url: str, directory: Path, workers: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            "DATABASE_URL": database_url.replace("postgres@", f"postgres:{PASSWORD}@"),
            "DBWATCH_DASHBOARD": "/dbwatch",
        }
        self._log = directory / f"shop-{self.port}.log"
        self._workers = workers
        self._pool = ThreadPoolExecutor(64)
        self._client = httpx.Client(base_url=self.url, timeout=60.0, headers={"user-agent": "<b>agent</b>"})
        self.process = self._start()

    def _start(self) -> UvicornProcess:
        return UvicornProcess(
            "tests.live.shop:app",
            self._log,
            env=self._environment,
            workers=self._workers,
            options=(f"--port={self.port}", "--timeout-keep-alive=75"),
        )

    def restart(self) -> None:
        """Start it again after it has ended."""
        self._log.unlink()
        self.process = self._start()

    def ask(self, path: str, client: httpx.Client | None = None) -> "Future[httpx.Response]":
        """Send a request and go on without waiting for its answer."""
        return self._pool.submit((client or self._client).get, path)

    def close(self) -> None:
        """Stop everything."""
        self.process.stop(signal.SIGKILL)
        self._pool.shutdown(cancel_futures=True)
        self._client.close()


@pytest.fixture
def start_shop(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Starts shops that live until the end of the test: ``start_shop(workers=4)``."""
    shops: list[Shop] = []

    def start(workers: int = 1) -> Shop:
        shops.append(Shop(postgres.url(), tmp_path, workers))
        return shops[-1]

    yield start
    for shop in shops:
        shop.close()


@pytest.fixture
def shop(start_shop: Callable[..., Shop]) -> Shop:
    """A shop of one process."""
    return start_shop()


@pytest.fixture
def customers(shop: Shop) -> Iterator[None]:
    """Ordinary traffic for as long as the test runs."""
    stop = threading.Event()

    def buy() -> None:
        with httpx.Client(base_url=shop.url, timeout=60.0) as client:
            number = 0
            while not stop.is_set():
                number += 1
                client.get(f"/orders/{number}" if number % 3 else "/products")
                stop.wait(0.05)

    threads = [threading.Thread(target=buy, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    try:
        program = find_program("chromium", "run `.ci/install-packages`, or `apt-get install chromium`")
    except MissingProgramError as error:
        cannot_run(error)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Viewer]]:
    """Opens the live page of a shop: ``look(shop, width=400)``. At the end the page must not have met an error."""
    viewers: list[Viewer] = []

    def open_page(shop: Shop, *, width: int = 1280, scheme: str = "light") -> Viewer:
        viewers.append(Viewer(browser, f"{shop.url}/dbwatch", width, scheme))
        return viewers[-1]

    yield open_page
    for viewer in viewers:
        viewer.close()
        assert viewer.errors == []
        assert viewer.foreign_requests == []
