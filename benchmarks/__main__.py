"""``python -m benchmarks``: what dbwatch costs, beside its neighbours, in one run."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks import bytecodes as bytecodes_of
from benchmarks import databases, machine, tables
from benchmarks import growth as growth_of
from benchmarks import instructions as instructions_of
from benchmarks import plugin as plugin_of
from benchmarks import throughput as throughput_of
from benchmarks import viewers as viewers_of
from benchmarks.results import evaluate
from benchmarks.rounds import BASELINE, Plan, compare
from benchmarks.variants import NAMES, UnavailableError
from benchmarks.workloads import WORKLOADS, Workload

Command = Callable[..., Any]

_save = click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures there as JSON.")


def _workloads(*default: str) -> Callable[[Command], Command]:
    return click.option(
        "--workload",
        "names",
        multiple=True,
        type=click.Choice(list(WORKLOADS)),
        default=default,
        show_default=True,
        help="What the requests do; may be given several times.",
    )


_variants = click.option(
    "--variant",
    "chosen",
    multiple=True,
    type=click.Choice(NAMES),
    default=NAMES,
    help="What is measured, by default everything; the bare app always is.",
)


@click.group()
def main() -> None:
    """Measure what dbwatch costs, and what its neighbours cost, in one run."""


@main.command()
@_workloads("plain", "inline-1", "inline-10", "sqlite-1", "thread-1", "psycopg", "asyncpg")
@_variants
@click.option("--processes", default=3, show_default=True, help="Processes of each variant, one after another.")
@click.option("--rounds", default=150, show_default=True, help="Pairs of batches for each process.")
@click.option("--batch", default=20, show_default=True, help="Requests in a batch.")
@_save
def requests(
    *, names: tuple[str, ...], chosen: tuple[str, ...], processes: int, rounds: int, batch: int, save: Path | None
) -> None:
    """CPU time added to a request over the bare app."""
    plan = Plan(processes, rounds, batch)
    measured = [name for name in NAMES if name in chosen or name == BASELINE]
    results = []
    with databases.filled(WORKLOADS[name] for name in names) as urls:
        for name in names:
            workload = WORKLOADS[name]
            results.append(evaluate(workload, compare(workload, urls[workload.driver], measured, plan)))
            click.echo(f"{tables.requests(results[-1])}\n")
    for table in tables.further(results):
        click.echo(f"{table}\n")
    _finish(save, {"plan": asdict(plan), "results": [asdict(result) for result in results]})


@main.command()
@_workloads("plain", "inline-1")
@_variants
@click.option("--requests", "count", default=300, show_default=True, help="Requests whose instructions are counted.")
@_save
def instructions(*, names: tuple[str, ...], chosen: tuple[str, ...], count: int, save: Path | None) -> None:
    """Instructions added to a request over the bare app, counted by valgrind: slow, but the same every time."""

    def measure(variant: str, workload: Workload, url: str) -> float:
        try:
            return instructions_of.per_request(variant, workload, url, count)
        except instructions_of.ValgrindMissingError as error:
            raise click.ClickException(str(error)) from None

    _finish(save, {"requests": count, "instructions": _count("instructions", measure, names, chosen)})


@main.command()
@_workloads("plain", "inline-1", "inline-10")
@_variants
@click.option("--functions", "most", default=0, show_default=True, help="List that many of dbwatch's functions.")
@_save
def bytecodes(*, names: tuple[str, ...], chosen: tuple[str, ...], most: int, save: Path | None) -> None:
    """Bytecodes added to a request over the bare app, in the event loop's thread: exact."""

    def measure(variant: str, workload: Workload, url: str) -> float:
        functions = bytecodes_of.per_request(variant, workload, url)
        if most and variant == "dbwatch_on":
            click.echo(f"{tables.functions(functions, most)}\n")
        return sum(number for _, number, _ in functions)

    _finish(save, {"bytecodes": _count("bytecodes", measure, names, chosen)})


def _count(
    unit: str,
    measure: Callable[[str, Workload, str], float],
    names: Sequence[str],
    chosen: Sequence[str],
) -> dict[str, dict[str, float]]:
    """The counts by workload and variant, each workload printed when it is done."""
    counted: dict[str, dict[str, float]] = {}
    with databases.filled(WORKLOADS[name] for name in names) as urls:
        for name in names:
            workload = WORKLOADS[name]
            counted[name] = {}
            for variant in NAMES:
                if variant in chosen or variant == BASELINE:
                    try:
                        counted[name][variant] = measure(variant, workload, urls[workload.driver])
                    except UnavailableError as error:
                        click.echo(f"Without {variant}: {error}.", err=True)
            click.echo(f"{tables.counts(workload, unit, counted[name])}\n")
    return counted


@main.command()
@click.option("--connections", default=200, show_default=True, help="Connections held at once.")
@_save
def memory(*, connections: int, save: Path | None) -> None:
    """Memory for a request that is under way and for a connection that it holds."""
    with TemporaryDirectory(prefix="dbwatch-bench-") as directory:
        url = f"sqlite+aiosqlite:///{directory}/held.db"
        held = {name: _run("benchmarks.held", name, url, connections) for name in (BASELINE, "dbwatch_on")}
    request = held["dbwatch_on"]["waiting"] - held[BASELINE]["waiting"]
    both = held["dbwatch_on"]["holding"] - held[BASELINE]["holding"]
    click.echo(f"{request:.0f} bytes for a request under way, {both - request:.0f} more for a connection it holds\n")
    _finish(save, {"connections": connections, "request_bytes": request, "checkout_bytes": both - request})


@main.command()
@click.option("--routes", default=200, show_default=True, help="Routes in use.")
@click.option("--requests", default=1_000_000, show_default=True, help="Requests to them, about 500 µs each.")
@_save
def kept(*, routes: int, requests: int, save: Path | None) -> None:
    """Memory for each route, and of the process over a million requests, with dbwatch and without."""
    with TemporaryDirectory(prefix="dbwatch-bench-") as directory:
        url = f"sqlite+aiosqlite:///{directory}/kept.db"
        found = {name: _run("benchmarks.kept", name, url, routes, requests) for name in (BASELINE, "dbwatch_on")}
    click.echo(f"{tables.kept(found, requests)}\n")
    _finish(save, {"routes": routes, "requests": requests, "kept": found})


@main.command()
@click.option("--rounds", default=100, show_default=True, help="Rounds, in each of which every state has its turn.")
@_save
def statement(*, rounds: int, save: Path | None) -> None:
    """CPU time of a further statement: dbwatch's hooks swapped for lesser ones, in one process."""
    with databases.filled([WORKLOADS["inline-100"]]) as urls:
        seconds = _run("benchmarks.swapped", urls["inline"], rounds)
    click.echo(f"{tables.swapped(seconds)}\n")
    _finish(save, {"rounds": rounds, "seconds": seconds})


@main.command()
@click.option("--routes", multiple=True, type=int, default=(10, 200, 2000), show_default=True, help="Routes in use.")
@click.option("--pools", default=4, show_default=True, help="Pools they use.")
@click.option("--scrapes", default=30, show_default=True, help="How often the page is read.")
@_save
def scrape(*, routes: tuple[int, ...], pools: int, scrapes: int, save: Path | None) -> None:
    """Time to read the metrics page, and how long the event loop stands meanwhile."""
    measured = []
    for number in routes:
        with TemporaryDirectory(prefix="dbwatch-bench-") as directory:
            measured.append(_run("benchmarks.scraped", directory, number, pools, scrapes))
    click.echo(f"{tables.scrapes(measured)}\n")
    _finish(save, {"scrapes": measured})


@main.command()
@click.option("--processes", default=2, show_default=True, help="Processes of each variant, one after another.")
@click.option("--rounds", default=60, show_default=True, help="Pairs of batches for each process.")
@click.option("--batch", default=20, show_default=True, help="Requests in a batch.")
@click.option("--turns", default=8, show_default=True, help="Turns of load on each number of workers.")
@click.option("--seconds", default=5.0, show_default=True, help="Seconds of a turn.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw it there, as SVG or PNG.")
@_save
def growth(
    *, processes: int, rounds: int, batch: int, turns: int, seconds: float, plot: Path | None, save: Path | None
) -> None:
    """How the cost grows with statements, with connections held at once, with routes and with workers."""
    axes = growth_of.measure(Plan(processes, rounds, batch), turns, seconds, lambda done: click.echo(done, err=True))
    click.echo(f"{growth_of.table(axes)}\n")
    if plot is not None:
        growth_of.plot(axes, plot)
    _finish(save, {"growth": [asdict(axis) for axis in axes]})


@main.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds with each number of viewers, in turn.")
@click.option("--seconds", default=6.0, show_default=True, help="Seconds of traffic in a round.")
@_save
def viewers(*, rounds: int, seconds: float, save: Path | None) -> None:
    """CPU time and latency of the demo while nobody, one and ten look at its live page."""
    measured = viewers_of.measure(rounds, seconds)
    click.echo(f"{viewers_of.table(measured)}\n")
    figures = [
        {
            "viewers": one.viewers,
            "requests": one.requests,
            "failed": one.failed,
            "core_share": one.core_share,
            **{f"p{share * 100:g}_seconds": one.latency(share) for share in (0.5, 0.95, 0.99)},
        }
        for one in measured
    ]
    _finish(save, {"rate": viewers_of.RATE, "viewers": figures})


@main.command()
@click.option("--turns", default=20, show_default=True, help="How often each server is loaded.")
@click.option("--seconds", default=5, show_default=True, help="Seconds of a turn.")
@click.option("--connections", default=10, show_default=True, help="Connections of the load.")
@_save
def throughput(*, turns: int, seconds: int, connections: int, save: Path | None) -> None:
    """Requests a second and latencies of the demo shop under uvicorn, with dbwatch and without."""
    try:
        compared = throughput_of.compare(turns, seconds, connections)
    except throughput_of.WrkMissingError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{tables.throughput(compared)}\n")
    _finish(save, {"turns": turns, "seconds": seconds, "throughput": [asdict(row) for row in compared]})


@main.command()
@click.option(
    "--rounds", default=5, show_default=True, help="Runs of the suite with each setting of the plugin, in turn."
)
@_save
def plugin(*, rounds: int, save: Path | None) -> None:
    """CPU time of the demo shop's own tests with the pytest plugin shut out, off, and on."""

    def done(variant: str, seconds: float) -> None:
        click.echo(f"{variant}: {seconds:.1f} s", err=True)

    try:
        costs = plugin_of.measure(rounds, done)
    except plugin_of.SuiteFailedError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{tables.plugin(costs)}\n")
    _finish(save, {"rounds": rounds, "plugin": [asdict(cost) for cost in costs]})


def _run(module: str, *arguments: object) -> dict[str, Any]:
    """What a module prints as JSON when it is run in a process of its own."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise click.ClickException(f"{module} failed:\n{ended.stderr[-2000:]}")
    printed: dict[str, Any] = json.loads(ended.stdout)
    return printed


def _finish(save: Path | None, figures: dict[str, Any]) -> None:
    described = machine.describe()
    click.echo(f"Measured on: {', '.join(f'{name} {value}' for name, value in described.items())}.")
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": described, **figures}, indent=1, ensure_ascii=False)
        save.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
