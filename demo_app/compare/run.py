"""Running the scenarios: the variants of each side by side, in turn, under the same load."""

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import Engine, create_engine, text

from demo_app.compare.measured import Measured, Round, Row
from demo_app.compare.reported import ask, held_seconds
from demo_app.load.job import Answer, Answers, Job
from demo_app.postgres import EmbeddedPostgres
from demo_app.preflight import free_port
from demo_app.processes import DemoError, Program, StopRequest, wait_until_it_answers
from demo_app.scenarios.scenario import Scenario, Variant
from demo_app.serving import scenario_environment, start_app

#: Seconds a request waits for a connection, in every variant.
POOL_TIMEOUT = 2.0
#: Of the largest pool in a scenario with an open loop.
_MOST_CONNECTIONS = 30
_COUNT_ROWS = text("SELECT count(*) FROM demo_customers")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured of each variant. Times are seconds."""

    rounds: int
    seconds: float
    warm_up: float


class LoadGenerator:
    """The process that sends the requests, one job at a time."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo_app.load.jobs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def perform(self, job: Job) -> Answers:
        """Do a job. Raises KeyboardInterrupt if the demo was asked to stop, DemoError if the generator has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stop.check()
        try:
            self._process.stdin.write(json.dumps(asdict(job)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self._process.stdout.readline()
        self._stop.check()
        if not line:
            raise DemoError("The load generator ended by itself; the reason stands above.")
        endpoint, bystander = json.loads(line)
        return Answers([Answer(*answer) for answer in endpoint], [Answer(*answer) for answer in bystander])


class Comparison:
    """A database and a load generator, and the apps of one scenario after the other."""

    def __init__(self, running: ExitStack, extent: Extent, stop: StopRequest, say: Say) -> None:
        self._extent = extent
        self._stop = stop
        self._say = say
        self._database = running.enter_context(EmbeddedPostgres(settings={"max_connections": "300"}))
        self._engine: Engine = create_engine(self._database.url(), pool_pre_ping=True, pool_size=1)
        running.callback(self._engine.dispose)
        self._load = running.enter_context(LoadGenerator(stop))
        self._logs = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="dbwatch-compare-")))

    def measure(self, scenario: Scenario) -> Row:
        """Measure all variants of a scenario. Raises DemoError if an app does not start."""
        groups = [[variant] for variant in scenario.variants] if scenario.apart else [list(scenario.variants)]
        measured = []
        for variants in groups:
            measured += self._side_by_side(scenario, variants)
        return Row(scenario, tuple(measured))

    def _side_by_side(self, scenario: Scenario, variants: Sequence[Variant]) -> list[Measured]:
        """Start the apps of these variants, give each its rounds in turn, and ask what dbwatch has to say."""
        with ExitStack() as running:
            urls = {variant.name: self._start(running, scenario, variant) for variant in variants}
            rounds: dict[str, list[Round]] = {variant.name: [] for variant in variants}
            for variant in variants:
                self._load.perform(_warm_up(scenario, urls[variant.name], self._extent.warm_up))
            # The order turns, so that what changes slowly on the machine does not favour one of them.
            orders = itertools.cycle((variants, variants[::-1]))
            for order in itertools.islice(orders, self._extent.rounds):
                for variant in order:
                    rounds[variant.name].append(self._round(scenario, urls[variant.name]))
            return [Measured(variant, tuple(rounds[variant.name]), ask(urls[variant.name])) for variant in variants]

    def _start(self, running: ExitStack, scenario: Scenario, variant: Variant) -> str:
        port = free_port("127.0.0.1", 0)
        environment = {
            "DATABASE_URL": self._database.url(),
            "POOL_TIMEOUT": str(POOL_TIMEOUT),
            **scenario_environment(scenario, variant),
        }
        log = self._logs / f"{scenario.name}-{variant.name}.log"
        app: Program = start_app(running, environment, port=port, log=log)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_it_answers(app, f"{url}/health", self._stop)
        except DemoError:
            self._say(log.read_text(encoding="utf-8", errors="replace")[-2000:])
            raise
        return url

    def _round(self, scenario: Scenario, url: str) -> Round:
        seconds = self._extent.seconds
        before = self._rows()
        held = held_seconds(url) if scenario.apart else 0.0
        if scenario.restarts:
            # What the restarts in the other variants' rounds broke is none of this round's.
            self._load.perform(_warm_up(scenario, url, self._extent.warm_up / 2))
            first = self._load.perform(_job(scenario, url, seconds / 2))
            self._database.restart()
            second = self._load.perform(_job(scenario, url, seconds / 2))
            answers = _joined(first, second, seconds / 2)
        else:
            answers = self._load.perform(_job(scenario, url, seconds))
        held = held_seconds(url) - held if scenario.apart else 0.0
        return Round(seconds, answers, self._rows() - before, held)

    def _rows(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(_COUNT_ROWS).scalar_one())


def _job(scenario: Scenario, url: str, seconds: float) -> Job:
    load = scenario.load
    return Job(url, load.method, load.paths, load.users, load.rate, seconds)


def _warm_up(scenario: Scenario, url: str, seconds: float) -> Job:
    """Enough clients to open every connection, one after the other: a new app that is hit by all at once is slow in
    either variant.
    """
    load = scenario.load
    return Job(url, load.method, load.paths, load.users or _MOST_CONNECTIONS, None, seconds, ramp=seconds * 0.8)


def _joined(first: Answers, second: Answers, after: float) -> Answers:
    """The answers of two jobs as if they were one, the second ``after`` so many seconds."""
    parts = [
        [*one, *(answer._replace(at=answer.at + after) for answer in other)]
        for one, other in zip(first, second, strict=True)
    ]
    return Answers(*parts)
