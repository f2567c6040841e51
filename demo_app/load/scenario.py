"""Send the traffic of a scenario: ``python -m demo_app.load.scenario http://127.0.0.1:8000 return-not-yield``."""

import logging
import signal
from collections.abc import Sequence

import click
import gevent
from gevent.event import Event

from demo_app.load.job import Answer, Job, percentile
from demo_app.load.jobs import perform
from demo_app.scenarios import SCENARIOS


@click.command()
@click.argument("url")
@click.argument("name", type=click.Choice(list(SCENARIOS)))
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds; without it, until Ctrl-C.")
def main(*, url: str, name: str, duration: float | None) -> None:
    """Send the traffic of the scenario NAME to the demo app at URL and say now and then how it goes."""
    logging.disable(logging.WARNING)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stop.set)
    load = SCENARIOS[name].load
    perform(Job(url, load.method, load.paths, load.users, load.rate, duration, bystander=False), stop, _say)


def _say(seconds: float, answers: Sequence[Answer]) -> None:
    times = [answer.seconds for answer in answers]
    failed = sum(answer.failed for answer in answers)
    click.echo(
        f"{seconds:5.0f} s  {len(answers) - failed} answered, {failed} failed in the last 5 s  "
        f"p50 {percentile(times, 0.5) * 1000:.0f} ms  p95 {percentile(times, 0.95) * 1000:.0f} ms"
    )


if __name__ == "__main__":
    main()
