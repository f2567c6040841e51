"""How the cost of a request grows: with its statements, with connections held at once, with routes and workers."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks import databases
from benchmarks.results import evaluate, interval
from benchmarks.rounds import BASELINE, Plan, compare
from benchmarks.viewers import PATHS, cpu_seconds
from benchmarks.workloads import WORKLOADS
from demo_app.compare.run import LoadGenerator
from demo_app.load.job import Job
from demo_app.postgres import EmbeddedPostgres
from demo_app.preflight import free_port
from demo_app.processes import StopRequest, wait_until_it_answers
from demo_app.serving import start_app

VARIANT = "dbwatch_on"
#: What is varied in one process: the workloads, by how many of it each has.
IN_PROCESS: Mapping[str, Mapping[int, str]] = {
    "statements in a request": {number: f"inline-{number}" for number in (1, 10, 100)},
    "requests that hold a connection at once": {number: f"holders-{number}" for number in (1, 10, 100)},
    "routes": {number: f"routes-{number}" for number in (10, 200, 2000)},
}
WORKERS = "workers under uvicorn, PostgreSQL"
_NUMBERS = (1, 2, 4)
_RATE = 80


@dataclass(frozen=True, slots=True)
class Point:
    """CPU seconds of a request to the bare app, and what dbwatch adds: median of the pairs, 95 % interval."""

    number: int
    bare: float
    added: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that is varied."""

    title: str
    points: tuple[Point, ...]


def measure(plan: Plan, turns: int, seconds: float, done: Callable[[str], None]) -> list[Axis]:
    """Everything, in this order. ``turns`` and ``seconds`` are those of the load on each number of workers."""
    axes = []
    for title, workloads in IN_PROCESS.items():
        points = []
        for number, name in workloads.items():
            workload = WORKLOADS[name]
            # What runs at once runs in whole groups, and costs a group's time.
            batch = max(plan.batch, workload.at_once) // workload.at_once * workload.at_once
            with databases.filled([workload]) as urls:
                samples = compare(
                    workload, urls[workload.driver], (BASELINE, VARIANT), Plan(plan.processes, plan.rounds, batch)
                )
            (added,) = (result := evaluate(workload, samples)).added
            points.append(Point(number, result.bare, added.median, added.lowest, added.highest))
            done(f"{title}: {number}")
        axes.append(Axis(title, tuple(points)))
    points = []
    for number in _NUMBERS:
        points.append(_by_workers(number, turns, seconds))
        done(f"{WORKERS}: {number}")
    return [*axes, Axis(WORKERS, tuple(points))]


@contextmanager
def _served(workers: int) -> Iterator[list[tuple[str, psutil.Process]]]:
    """The demo without dbwatch and with it, each with so many workers: addresses and processes."""
    with ExitStack() as running:
        stop = StopRequest()
        url = running.enter_context(EmbeddedPostgres()).url()
        served = []
        for environment in ({"DBWATCH_ENABLED": "0"}, {}):
            port = free_port("127.0.0.1", 0)
            before = {*psutil.Process().children()}
            app = start_app(running, {**environment, "DATABASE_URL": url}, port=port, workers=workers)
            (process,) = (one for one in psutil.Process().children() if one not in before)
            address = f"http://127.0.0.1:{port}"
            wait_until_it_answers(app, f"{address}/health", stop)
            served.append((address, process))
        yield served


def _by_workers(workers: int, turns: int, seconds: float) -> Point:
    costs: list[tuple[float, float]] = []
    with _served(workers) as served, LoadGenerator(StopRequest()) as generator:
        for turn in range(turns + 1):
            pair = []
            for address, process in served if turn % 2 else reversed(served):
                job = Job(address, "GET", PATHS, users=None, rate=_RATE, seconds=seconds, bystander=False)
                cpu = cpu_seconds(process)
                answers = generator.perform(job).endpoint
                time.sleep(1.1)  # files are written every second
                pair.append((cpu_seconds(process) - cpu) / len(answers))
            bare, watched = pair if turn % 2 else reversed(pair)
            if turn:  # the first warms up
                costs.append((bare, watched))
    differences = sorted(watched - bare for bare, watched in costs)
    lowest, highest = interval(differences)
    return Point(workers, median(bare for bare, _ in costs), median(differences), lowest, highest)


def table(axes: Sequence[Axis]) -> str:
    """All points as a Markdown table."""
    lines = [
        "| what | how many | bare app, µs a request | added µs, median (95 %) | of the bare app |",
        "|---|---|---|---|---|",
    ]
    for axis in axes:
        for point in axis.points:
            bare, added, lowest, highest = (
                f"{value * 1e6:.0f}" for value in (point.bare, point.added, point.lowest, point.highest)
            )
            share = f"{point.added / point.bare:.0%}"
            lines.append(f"| {axis.title} | {point.number} | {bare} | {added} ({lowest} to {highest}) | {share} |")
    return "\n".join(lines)


def plot(axes: Sequence[Axis], path: Path) -> None:
    """What is added, over what is varied."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # takes a second, and only a plot needs it

    figure = Figure(figsize=(3.6 * len(axes), 3.4), layout="constrained")
    for axis, panel in zip(axes, figure.subplots(1, len(axes)), strict=True):
        numbers = [point.number for point in axis.points]
        added = [point.added * 1e6 for point in axis.points]
        below = [(point.added - point.lowest) * 1e6 for point in axis.points]
        above = [(point.highest - point.added) * 1e6 for point in axis.points]
        panel.errorbar(numbers, added, (below, above), marker="o", capsize=4, color="#1565c0")
        for point in axis.points:
            share = f"{point.added / point.bare:.0%}"
            panel.annotate(share, (point.number, point.added * 1e6), (6, 6), textcoords="offset points", fontsize=8)
        panel.set_xscale("log")
        panel.set_xticks(numbers, [str(number) for number in numbers])
        panel.minorticks_off()
        panel.margins(x=0.15)
        panel.set_ylim(bottom=min(0.0, *panel.get_ylim()), top=1.15 * max(panel.get_ylim()))
        panel.set_title(axis.title, fontsize=9)
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("CPU µs added to a request,\nand of the bare app's", fontsize=9)
    figure.savefig(path)
