"""Concurrent clients of an app under test, and what dbwatch says about their requests."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import httpx

import dbwatch
from dbwatch import Finding
from dbwatch.pools import POOLS
from tests.findings.stage import Stage
from tests.servers.waiting import eventually


class Visitor:
    """Requests to one server, from up to 64 threads at once."""

    def __init__(self, url: str, stage: Stage) -> None:
        self.url = url
        self.stage = stage
        # After an error that has been answered, uvicorn closes the connection: none is used again.
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=0)
        self._client = httpx.Client(base_url=url, timeout=60.0, limits=limits, trust_env=False)
        self._threads = ThreadPoolExecutor(64)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """One GET."""
        return self._client.get(path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """One POST."""
        return self._client.post(path, **options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request of any method."""
        return self._client.request(method, path, **options)

    def stream(self, path: str) -> Any:
        """A GET whose body is read as it comes."""
        return self._client.stream("GET", path)

    def many(self, path: str, times: int, *, method: str = "GET", clients: int = 8) -> list[httpx.Response]:
        """The same request ``times`` times, ``clients`` of them at once."""
        return self.all([path] * times, method=method, clients=clients)

    def all(self, paths: Iterable[str], *, method: str = "GET", clients: int = 8) -> list[httpx.Response]:
        """A request for each path, ``clients`` of them at once."""
        with ThreadPoolExecutor(clients) as threads:
            return list(threads.map(lambda path: self._client.request(method, path), paths))

    def begin(self, path: str, method: str = "GET") -> "Any":
        """Send a request from a thread of its own; the answer is the future's result."""
        return self._threads.submit(self._client.request, method, path)

    def findings(self) -> tuple[Finding, ...]:
        """What was found, once no request runs and no verdict is pending."""
        self.until_quiet()
        assert dbwatch.settle(20.0)
        return dbwatch.findings()

    def findings_so_far(self) -> tuple[Finding, ...]:
        """What was found, whatever is pending."""
        return dbwatch.findings()

    def connections_out(self) -> int:
        """How many connections the app has out of the pools of its own engines."""
        return sum(len(POOLS.of(engine.pool).open) for engine in self.stage.engines)

    def until_quiet(self) -> None:
        """Wait until no request runs: a client has its answer a little earlier."""
        eventually(lambda: self.stage.running == 0, every=0.002)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        self._client.close()
