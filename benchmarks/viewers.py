"""What looking costs: the demo under steady traffic, with no viewer of its live page, one and ten, in turn."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import httpx
import psutil

from demo_app.compare.run import LoadGenerator
from demo_app.load.job import Job, percentile
from demo_app.postgres import EmbeddedPostgres
from demo_app.preflight import free_port
from demo_app.processes import StopRequest, wait_until_it_answers
from demo_app.serving import start_app

VIEWERS = (0, 1, 10)
PATHS = ("/async/products/1", "/sync/products/2", "/async/customers/3", "/sync/customers/4")
RATE = 100
#: The first seconds of a viewer bring all of the history.
_SETTLE_SECONDS = 2.0


@dataclass(slots=True)
class Watched:
    """All rounds with one number of viewers. Times in seconds."""

    viewers: int
    requests: int = 0
    failed: int = 0
    cpu: float = 0.0
    lasted: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def core_share(self) -> float:
        """Of one core, what the app's process used."""
        return self.cpu / self.lasted

    def latency(self, share: float) -> float:
        """The time within which this share of the requests was answered."""
        return percentile(self.latencies, share)


def measure(rounds: int, seconds: float) -> list[Watched]:
    """Interleaved rounds with each number of viewers."""
    watched = [Watched(number) for number in VIEWERS]
    with ExitStack() as running:
        stop = StopRequest()
        server = running.enter_context(EmbeddedPostgres())
        port = free_port("127.0.0.1", 0)
        app = start_app(running, {"DATABASE_URL": server.url()}, port=port)
        url = f"http://127.0.0.1:{port}"
        wait_until_it_answers(app, f"{url}/health", stop)
        process = next(child for child in psutil.Process().children() if "uvicorn" in child.cmdline())
        generator = running.enter_context(LoadGenerator(stop))
        job = Job(url, "GET", PATHS, users=None, rate=RATE, seconds=seconds, bystander=False)
        generator.perform(job)  # warms up
        for _ in range(rounds):
            for one in watched:
                with _looking(url, one.viewers):
                    cpu, began = cpu_seconds(process), time.monotonic()
                    answers = generator.perform(job).endpoint
                    one.cpu += cpu_seconds(process) - cpu
                    one.lasted += time.monotonic() - began
                one.requests += len(answers)
                one.failed += sum(answer.failed for answer in answers)
                one.latencies += [answer.seconds for answer in answers]
    return watched


@contextmanager
def _looking(url: str, viewers: int) -> Iterator[None]:
    """So many open pages, each with its stream of events, which it opens anew when it ends."""
    done = threading.Event()

    def look() -> None:
        with httpx.Client(timeout=30.0, trust_env=False) as client:
            while not done.is_set():
                with client.stream("GET", f"{url}/dbwatch/api/events") as events:
                    for _ in events.iter_lines():
                        if done.is_set():
                            return

    threads = [threading.Thread(target=look) for _ in range(viewers)]
    for thread in threads:
        thread.start()
    time.sleep(_SETTLE_SECONDS)
    yield
    done.set()
    for thread in threads:
        thread.join()


def cpu_seconds(process: psutil.Process) -> float:
    """Of a server and all its workers."""
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def table(watched: Sequence[Watched]) -> str:
    """The rounds as a Markdown table."""
    alone = watched[0].core_share
    lines = ["| viewers | requests | p50 | p95 | p99 | app, of one core | added |", "|---|---|---|---|---|---|---|"]
    for one in watched:
        times = " | ".join(f"{one.latency(share) * 1e3:.1f} ms" for share in (0.5, 0.95, 0.99))
        added = f"{(one.core_share - alone) * 100:+.2f} %" if one.viewers else ""
        failed = f" ({one.failed} failed)" if one.failed else ""
        lines.append(f"| {one.viewers} | {one.requests}{failed} | {times} | {one.core_share * 100:.1f} % | {added} |")
    return "\n".join(lines)
