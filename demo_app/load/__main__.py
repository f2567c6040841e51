"""Send the traffic: ``python -m demo_app.load http://127.0.0.1:8000 --duration 10``."""

import logging
import signal
import time
from pathlib import Path

import click
import gevent
from gevent.event import Event
from locust.env import Environment
from locust.runners import LocalRunner

from demo_app.load.shopper import Shopper
from demo_app.load.tally import Tally, percentile


@click.command()
@click.argument("url")
@click.option("--users", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many at once.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=50.0,
    show_default=True,
    help="Requests a second of all users together, at most.",
)
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds; without it, until Ctrl-C.")
@click.option("--status-every", type=click.FloatRange(1), default=5.0, show_default=True, help="Seconds.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write what was sent to this file.")
def main(
    *, url: str, users: int, rate: float, duration: float | None, status_every: float, report: Path | None
) -> None:
    """Send the traffic of a shop to the demo app at URL and say now and then how it goes."""
    logging.disable(logging.INFO)
    Shopper.requests_per_second = rate / users
    # Longer than a user waits for an answer: every request that was sent is finished and counted.
    environment = Environment(user_classes=[Shopper], host=url, stop_timeout=Shopper.network_timeout + 5)
    tally = Tally()
    environment.events.request.add_listener(tally.record)  # type: ignore[no-untyped-call]
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stop.set)

    runner = environment.create_local_runner()
    start = time.monotonic()
    runner.start(users, spawn_rate=users)
    while not stop.wait(_until_next(start, status_every, duration)):
        if duration is not None and time.monotonic() - start >= duration:
            break
        click.echo(_status(time.monotonic() - start, runner, tally))
    runner.quit()
    seconds = time.monotonic() - start
    click.echo(_status(seconds, runner, tally))
    if report is not None:
        tally.report(environment.stats, seconds).save(report)


def _until_next(start: float, every: float, duration: float | None) -> float:
    """Seconds until the next status line or the end of the run."""
    seconds = time.monotonic() - start
    following = (seconds // every + 1) * every
    return max(0.0, min(following, duration if duration is not None else following) - seconds)


def _status(seconds: float, runner: LocalRunner, tally: Tally) -> str:
    total = runner.stats.total
    answers = "  ".join(f"{status}: {count}" for status, count in sorted(tally.statuses.items()))
    return (
        f"{seconds:5.0f} s  {total.num_requests} requests  {total.current_rps:.0f}/s  "
        f"p50 {percentile(total, 0.5) * 1000:.0f} ms  p95 {percentile(total, 0.95) * 1000:.0f} ms  "
        f"[{answers}]  unexpected: {tally.unexpected}"
    )


if __name__ == "__main__":
    main()
