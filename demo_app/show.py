"""The running demo: the app with one variant and its traffic, replaced together when another is wanted."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from demo_app.app import LIVE_PAGE
from demo_app.guide import Act, Guide
from demo_app.postgres import EmbeddedPostgres
from demo_app.processes import DemoError, Program, StopRequest, wait_until_it_answers
from demo_app.scenarios.scenario import Scenario
from demo_app.serving import scenario_environment, start_app
from demo_app.settings import Settings

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
#: Seconds between two restarts of the database in a scenario that is about them.
_RESTART_EVERY = 8.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of the shop, and whether there is any at all."""

    wanted: bool
    users: int
    rate: float
    report: Path | None


class Show:
    """Plays one act after the other, until the time is over or somebody stops it."""

    def __init__(
        self,
        settings: Settings,
        *,
        server: EmbeddedPostgres | None,
        host: str,
        port: int,
        workers: int,
        otel: bool,
        traffic: Traffic,
        stop: StopRequest,
    ) -> None:
        self._settings = settings
        self._server = server
        self._host = host
        self._port = port
        self._workers = workers
        self._otel = otel
        self._traffic = traffic
        self._stop = stop
        self.url = f"http://{_address(host)}:{port}"

    def play(self, act: Act, guide: Guide, duration: float | None) -> None:
        """Play this act, and each that the guide asks for, for so many seconds in all.

        Raises DemoError if a program ends by itself, KeyboardInterrupt if the demo is to stop.
        """
        end = None if duration is None else time.monotonic() + duration
        first = True
        while True:
            with ExitStack() as running:
                app, traffic = self._start(running, act, guide, end, first=first)
                next_act = self._watch(act, guide, app, traffic, end)
            if next_act is None:
                return
            act, first = next_act, False
            guide.starting(act)

    def _start(
        self, running: ExitStack, act: Act, guide: Guide, end: float | None, *, first: bool
    ) -> tuple[Program, Program | None]:
        environment = {"DATABASE_URL": self._settings.database_url}
        if act.scenario is not None and act.variant is not None:
            environment |= scenario_environment(act.scenario, act.variant)
        app = start_app(running, environment, port=self._port, host=self._host, workers=self._workers, otel=self._otel)
        wait_until_it_answers(app, f"{self.url}/health", self._stop)
        if first:
            self._announce(guide)
        if act.scenario is not None:
            click.echo(_programme(act, act.scenario))
        traffic = self._send(running, act, end) if self._traffic.wanted else None
        if first:
            click.echo("Ctrl-C stops everything.\n")
        guide.playing(act)
        return app, traffic

    def _announce(self, guide: Guide) -> None:
        origin = "as given" if self._server is None else "embedded, gone afterwards"
        click.echo(f"Database    {self._settings.sync_url.render_as_string(hide_password=True)} ({origin})")
        click.echo(f"Shop        {self.url}")
        click.echo(f"  Live page {self.url}{LIVE_PAGE}")
        click.echo(f"  API       {self.url}/docs")
        click.echo(f"  Metrics   {self.url}/metrics")
        if self._otel:
            endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere; set OTEL_EXPORTER_OTLP_ENDPOINT")
            click.echo(f"  OTLP      {endpoint}")
        click.echo(f"Guide       {guide.url}  (pick a mistake, watch it on the live page, then its correction)")

    def _send(self, running: ExitStack, act: Act, end: float | None) -> Program:
        duration = [] if end is None else ["--duration", str(max(0.1, end - time.monotonic()))]
        if act.scenario is not None:
            click.echo(f"Traffic     {act.scenario.load}")
            arguments = [self.url, act.scenario.name, *duration]
            return running.enter_context(Program("demo_app.load.scenario", arguments, {}))
        traffic = self._traffic
        click.echo(f"Traffic     {traffic.users} users, at most {traffic.rate:g} requests/s")
        arguments = [self.url, "--users", str(traffic.users), "--rate", str(traffic.rate), *duration]
        if traffic.report is not None:
            arguments += ["--report", str(traffic.report)]
        return running.enter_context(Program("demo_app.load", arguments, {}))

    def _watch(self, act: Act, guide: Guide, app: Program, traffic: Program | None, end: float | None) -> Act | None:
        """Return the next act, or None when the time is over, which the traffic knows best."""
        restart_at = time.monotonic() + _RESTART_EVERY
        while True:
            wanted = guide.wanted()
            if wanted is not None:
                return wanted
            if app.exit_status is not None:
                raise DemoError(f"The app ended by itself with status {app.exit_status}; the reason stands above.")
            if traffic is not None and traffic.exit_status == 0:
                return None
            if traffic is not None and traffic.exit_status is not None:
                raise DemoError(
                    f"The traffic ended by itself with status {traffic.exit_status}; the reason stands above."
                )
            if traffic is None and end is not None and time.monotonic() >= end:
                return None
            if act.scenario is not None and act.scenario.restarts and time.monotonic() >= restart_at:
                self._restart()
                restart_at = time.monotonic() + _RESTART_EVERY
            self._stop.pause()

    def _restart(self) -> None:
        if self._server is not None:
            click.echo("The database restarts.")
            self._server.restart()


def check_scenario(scenario: Scenario, *, embedded: bool, settings: Settings, report: Path | None) -> None:
    """Raise DemoError if this scenario cannot be shown with these options."""
    if settings.sync_url.get_backend_name() != "postgresql":
        raise DemoError(f"--scenario {scenario.name} needs PostgreSQL; leave DATABASE_URL out for the embedded one.")
    if scenario.restarts and not embedded:
        raise DemoError(
            f"--scenario {scenario.name} restarts the database, which only the embedded one allows; "
            "leave DATABASE_URL out."
        )
    if report is not None:
        raise DemoError("--report is about the traffic of the shop; leave out --scenario or --report.")


def _programme(act: Act, scenario: Scenario) -> str:
    label = act.variant.label if act.variant is not None else ""
    return f"Scenario    {act}: {label}\n  look at   {scenario.look_at}\n  code      {scenario.file}"


def _address(host: str) -> str:
    host = _ANY_ADDRESS.get(host, host)
    return f"[{host}]" if ":" in host else host
