"""Throughput and latency of the demo shop under uvicorn, with dbwatch and without, driven by wrk in turn.

All servers run at the same time on one PostgreSQL, and one at a time is loaded, for a few seconds: whatever else the
machine does falls on all alike. A second server without dbwatch shows the error of the method.
"""

import json
import random
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.error import URLError

from benchmarks.results import interval
from demo_app.postgres import EmbeddedPostgres
from demo_app.preflight import free_port
from demo_app.serving import start_app

#: What each server is started with. The first is what the others are compared to.
SERVERS: Mapping[str, Mapping[str, str]] = {
    "without dbwatch": {"DBWATCH_ENABLED": "0"},
    "without dbwatch, a second time (the method's own error)": {"DBWATCH_ENABLED": "0"},
    "dbwatch": {},
}
_SCRIPT = Path(__file__).with_name("crud.lua")
_START_SECONDS = 120.0
_HOST = "127.0.0.1"


class WrkMissingError(Exception):
    """wrk is not installed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk has seen in one turn: requests a second, and latencies in seconds."""

    rate: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Compared:
    """A server beside the first one, turn by turn: medians, and the ratio of the rates with its 95 % interval."""

    title: str
    rate: float
    p50: float
    p99: float
    ratio: float
    lowest: float
    highest: float


def compare(turns: int, seconds: int, connections: int) -> list[Compared]:
    """Load every server ``turns`` times.

    Raises:
        WrkMissingError: there is no wrk.
    """
    shuffled = random.Random(0)
    loads: dict[str, list[Load]] = {title: [] for title in SERVERS}
    with _servers() as urls:
        for url in urls.values():
            _load(url, "warm", 3, connections)
        for turn in range(turns):
            for title in shuffled.sample(list(urls), len(urls)):
                loads[title].append(_load(urls[title], f"{turn}", seconds, connections))
    baseline = next(iter(loads.values()))
    return [_compared(title, baseline, measured) for title, measured in loads.items()]


@contextmanager
def _servers() -> Iterator[dict[str, str]]:
    with ExitStack() as running:
        server = running.enter_context(EmbeddedPostgres())
        urls = {}
        for title, environment in SERVERS.items():
            port = free_port(_HOST, 0)
            start_app(running, {**environment, "DATABASE_URL": server.url()}, port=port)
            urls[title] = f"http://{_HOST}:{port}"
            _wait_for(f"{urls[title]}/health")
        yield urls


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _load(url: str, run: str, seconds: int, connections: int) -> Load:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise WrkMissingError("wrk is not installed")
    ended = subprocess.run(
        [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_SCRIPT), url, "--", f"{run}-{url[-5:]}"],
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(ended.stdout.splitlines()[-1])
    if said["failed"]:
        raise RuntimeError(f"{said['failed']} requests to {url} got no answer")
    return Load(said["requests"] / said["seconds"], said["p50"], said["p99"])


def _compared(title: str, baseline: list[Load], measured: list[Load]) -> Compared:
    ratios = sorted(other.rate / one.rate for one, other in zip(baseline, measured, strict=True))
    lowest, highest = interval(ratios)
    return Compared(
        title,
        median(load.rate for load in measured),
        median(load.p50 for load in measured),
        median(load.p99 for load in measured),
        median(ratios),
        lowest,
        highest,
    )
