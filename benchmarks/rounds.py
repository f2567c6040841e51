"""The comparison: one process for each variant, driven in turn in small batches.

In each round every variant runs one batch, and the bare app one right before or after it, so that whatever else the
machine does falls on both alike; a variant's figure is the difference within these pairs. The processes are started
several times over, since two processes of the same program differ by the layout of their memory.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.variants import UnavailableError
from benchmarks.workloads import Workload

BASELINE = "bare"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: processes per variant, rounds for each, requests in a batch."""

    processes: int
    rounds: int
    batch: int


@dataclass(slots=True)
class Samples:
    """By variant: pairs of CPU seconds per request, of the bare app and of the variant; titles; why one is missing."""

    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


class Worker:
    """The parent's end of a worker process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        hello = self._read()
        if "unavailable" in hello:
            raise UnavailableError(str(hello["unavailable"]))
        self.title = str(hello["title"])

    def run(self, size: int) -> float:
        """CPU seconds per request of one batch."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        return float(self._read()["seconds"]) / size

    def _read(self) -> dict[str, float | str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with code {self._process.wait()}: {self._process.args!r}")
        answer: dict[str, float | str] = json.loads(line)
        return answer


@contextmanager
def worker(variant: str, workload: Workload, url: str, core: int) -> Iterator[Worker]:
    """A worker process, warmed up.

    Raises:
        UnavailableError: the variant cannot run here.
    """
    command = [sys.executable, "-m", "benchmarks.worker", variant, workload.name, url, str(core)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Worker(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=20)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def compare(workload: Workload, url: str, variants: Sequence[str], plan: Plan) -> Samples:
    """Run every variant of a workload as planned."""
    samples = Samples()
    shuffled = random.Random(0)  # the same orders in every run
    for core in range(plan.processes):
        with ExitStack() as stack:
            workers = {}
            for name in variants:
                try:
                    workers[name] = stack.enter_context(worker(name, workload, url, core))
                except UnavailableError as error:
                    samples.unavailable[name] = str(error)
                else:
                    samples.titles[name] = workers[name].title
            bare = workers.pop(BASELINE)
            order = list(workers)
            for _ in range(plan.rounds):
                shuffled.shuffle(order)
                for name in order:
                    samples.pairs.setdefault(name, []).append(_pair(bare, workers[name], plan, shuffled.random() < 0.5))
    return samples


def _pair(bare: Worker, other: Worker, plan: Plan, bare_first: bool) -> tuple[float, float]:
    if bare_first:
        return bare.run(plan.batch), other.run(plan.batch)
    cost = other.run(plan.batch)
    return bare.run(plan.batch), cost
