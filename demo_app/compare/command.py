"""``python -m demo_app compare``."""

import time
from contextlib import ExitStack
from pathlib import Path

import click

from demo_app.bad_input import BadInput
from demo_app.compare import plot as pictures
from demo_app.compare import table
from demo_app.compare.conditions import Conditions
from demo_app.compare.measured import Measured, Row
from demo_app.compare.run import Comparison, Extent
from demo_app.postgres import PostgresError
from demo_app.processes import DemoError, StopRequest
from demo_app.scenarios import SCENARIOS
from demo_app.scenarios.find import find_scenario
from demo_app.scenarios.scenario import Scenario


@click.command()
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, help="Rounds of each variant, in turn.")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=2.5, help="Seconds of a round.")
@click.option("--warm-up", type=click.FloatRange(0.1, 60), default=1.0, help="Seconds of load before the first round.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("comparison"),
    help="Directory for comparison.md and comparison.json.",
)
@click.option("--plot", is_flag=True, help="Also draw latency and pool use over time, a picture for each scenario.")
def compare(*, names: tuple[str, ...], rounds: int, seconds: float, warm_up: float, out: Path, plot: bool) -> None:
    """Run mistakes and their corrections under the same load and print what it makes of them.

    All scenarios, or those named. Ends with status 1 if a mistake did no harm or was not found, or a correction was
    accused.
    """
    stop = StopRequest()
    extent = Extent(rounds, seconds, warm_up)
    try:
        scenarios = [find_scenario(name) for name in names] or list(SCENARIOS.values())
        if plot:
            pictures.check_plot()
        _make(out)
        conditions = Conditions(extent)
        with ExitStack() as running:
            rows, repeated = _measure(Comparison(running, extent, stop, click.echo), scenarios)
    except KeyboardInterrupt:
        click.echo("Stopped.")
        raise SystemExit(130) from None
    except (DemoError, PostgresError) as error:
        raise BadInput(str(error)) from error
    text = "\n\n".join([table.full(rows), str(conditions), *repeated]) + "\n"
    (out / "comparison.md").write_text(f"{text}\n{table.summary(rows)}\n", encoding="utf-8")
    (out / "comparison.json").write_text(table.as_json(rows, str(conditions)) + "\n", encoding="utf-8")
    click.echo(f"\n{text}")
    saved = [out / "comparison.md", out / "comparison.json"]
    saved += [pictures.save(row, out) for row in rows] if plot else []
    click.echo(f"Saved: {', '.join(map(str, saved))}")
    shortcomings = [sentence for row in rows for sentence in row.shortcomings()]
    for sentence in shortcomings:
        click.echo(f"Not as it should be: {sentence}")
    if shortcomings:
        raise SystemExit(1)
    click.echo("As it should be: every mistake did harm and was found at its line, and no correction was accused.")


def _measure(comparison: Comparison, scenarios: list[Scenario]) -> tuple[list[Row], list[str]]:
    """The rows, and a sentence on each that was measured twice.

    What falls short is measured once more: a machine that stalls for half a second makes an idle hold of any.
    """
    rows, repeated = [], []
    start = time.monotonic()
    for number, scenario in enumerate(scenarios, 1):
        click.echo(f"[{number}/{len(scenarios)}] {scenario.name}: {scenario.mistake}, {scenario.load}")
        row = comparison.measure(scenario)
        _show(row)
        if row.shortcomings():
            reasons = " ".join(row.shortcomings())
            click.echo(f"  once more, because {reasons}")
            repeated.append(f"Measured once more, because the first time {reasons}")
            row = comparison.measure(scenario)
            _show(row)
        rows.append(row)
        left = (time.monotonic() - start) / number * (len(scenarios) - number)
        click.echo(f"  {time.monotonic() - start:.0f} s so far, about {left:.0f} s to go")
    return rows, repeated


def _show(row: Row) -> None:
    for measured in row.measured:
        click.echo(_progress(measured))


def _progress(measured: Measured) -> str:
    said = measured.reported.findings
    findings = ", ".join(sorted({one.finding for one in said})) or "nothing"
    return (
        f"  {measured.variant.name:9} {measured.good_per_second:5.0f} requests/s  p50 {measured.p50 * 1000:6.1f} ms  "
        f"p95 {measured.p95 * 1000:6.1f} ms  errors {measured.errors:5.1%}  dbwatch: {findings}"
    )


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DemoError(f"--out {directory}: {reason}; name a directory that can be written.") from None
