"""Run jobs with locust: ``python -m demo_app.load.jobs`` takes one a line on its input and answers on its output.

One process for all jobs of a comparison, because starting locust takes longer than a round.
"""

import itertools
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent.pool
from gevent.event import Event
from locust import FastHttpUser, User, task
from locust.env import Environment
from locust.event import Events

from demo_app.load.job import Answer, Answers, Job

#: The path of the bystander, and how often it asks.
BYSTANDER_PATH = "/health"
_BYSTANDER_SECONDS = 0.05
#: More than waits for any answer in a scenario.
_PATIENCE_SECONDS = 8.0

_chance = random.Random()  # noqa: S311


class _User(FastHttpUser):
    """What all users have in common; a job makes subclasses."""

    abstract = True
    network_timeout = _PATIENCE_SECONDS
    connection_timeout = _PATIENCE_SECONDS
    job: Job
    paths: Iterator[str]

    def send(self) -> None:
        self.client.request(self.job.method, next(self.paths), name="endpoint")


class _Client(_User):
    """Closed loop: the next request follows the answer to the last."""

    abstract = True

    @task
    def ask(self) -> None:
        self.send()


class _Arrivals(_User):
    """Open loop: requests arrive as from people who do not know of each other, however long the others wait."""

    abstract = True
    concurrency = 2000

    def on_start(self) -> None:
        self._requests = gevent.pool.Group()
        self._next = time.monotonic()

    @task
    def arrive(self) -> None:
        self._requests.spawn(self.send)

    def wait_time(self) -> float:
        assert self.job.rate is not None
        self._next += _chance.expovariate(self.job.rate)
        return max(0.0, self._next - time.monotonic())

    def on_stop(self) -> None:
        self._requests.join(_PATIENCE_SECONDS)


class _Bystander(_User):
    """Asks for a route that does nothing, to see whether it is served meanwhile."""

    abstract = True
    fixed_count = 1

    @task
    def ask(self) -> None:
        self.client.get(BYSTANDER_PATH, name="bystander")

    def wait_time(self) -> float:
        return _BYSTANDER_SECONDS


class _Record:
    """Takes note of every request that ends; the signature is that of locust's event."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.answers: dict[str, list[Answer]] = {"endpoint": [], "bystander": []}

    def __call__(self, name: str, response_time: float, response: Any, **_: object) -> None:
        answer = Answer(time.monotonic() - self.start, response_time / 1000, response.status_code or 0)
        self.answers[name].append(answer)


def perform(job: Job, stop: Event, status: Callable[[float, list[Answer]], None] | None = None) -> Answers:
    """Do the job until its time is over or ``stop`` is set, and wait for the answers to what was sent.

    ``status`` is called every five seconds with the seconds since the start and the answers since the last call.
    """
    facts = {"abstract": False, "job": job, "paths": itertools.cycle(job.paths)}
    users: list[type[User]] = [
        type("Client", (_Client,), facts)
        if job.rate is None
        else type("Arrivals", (_Arrivals,), {**facts, "fixed_count": 1})
    ]
    count = 1 if job.users is None else job.users
    if job.bystander:
        users.append(type("Bystander", (_Bystander,), facts))
        count += 1
    events = Events()  # type: ignore[no-untyped-call]
    environment = Environment(user_classes=users, host=job.url, events=events, stop_timeout=_PATIENCE_SECONDS + 1)
    record = _Record()
    environment.events.request.add_listener(record)  # type: ignore[no-untyped-call]
    runner = environment.create_local_runner()
    runner.start(count, spawn_rate=count / job.ramp if job.ramp else count)
    told = 0
    while True:
        elapsed = time.monotonic() - record.start
        left = None if job.seconds is None else job.seconds - elapsed
        if stop.wait(5.0 if left is None else max(0.0, min(5.0, left))) or (left is not None and left <= 5.0):
            break
        if status is not None:
            status(time.monotonic() - record.start, record.answers["endpoint"][told:])
            told = len(record.answers["endpoint"])
    runner.quit()
    return Answers(record.answers["endpoint"], record.answers["bystander"])


def main() -> None:
    """Do one job after the other until the input ends."""
    logging.disable(logging.WARNING)
    never = Event()
    for line in sys.stdin:
        wanted = json.loads(line)
        answers = perform(Job(**{**wanted, "paths": tuple(wanted["paths"])}), never)
        sys.stdout.write(json.dumps(answers) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
