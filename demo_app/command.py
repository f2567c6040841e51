"""The command: database, app and traffic, started together and stopped together."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from demo_app.postgres import EmbeddedPostgres, PostgresError
from demo_app.preflight import check_database, check_report, free_port
from demo_app.processes import DemoError, Program, StopRequest, wait_until_it_answers
from demo_app.settings import PoolSettings, Settings, SettingsError

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class _BadInput(click.ClickException):
    """Shown as one line."""

    exit_code = 2


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", help="Address the app listens on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port of the app; 0 takes a free one.")
@click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    help="Database to use, such as postgresql+psycopg://user:password@host/name or sqlite:///demo.db; its tables "
    "demo_* stay. Without it, an embedded PostgreSQL that is gone afterwards.",
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Processes of the app.")
@click.option(
    "--otel",
    is_flag=True,
    help="Run OpenTelemetry's SDK and its FastAPI and SQLAlchemy instrumentation beside dbwatch; set "
    "OTEL_EXPORTER_OTLP_ENDPOINT to send traces and metrics there by OTLP.",
)
@click.option("--no-load", is_flag=True, help="Send no traffic.")
@click.option("--users", type=click.IntRange(1, 1000), default=10, help="Users of the traffic.")
@click.option(
    "--rate", type=click.FloatRange(0, 10_000, min_open=True), default=50.0, help="Requests a second, at most."
)
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds to run; without it, until Ctrl-C.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False, writable=True, resolve_path=True),
    help="At the end, write what the traffic sent and got to this file, as JSON.",
)
def main(
    *,
    host: str,
    port: int,
    database_url: str | None,
    workers: int,
    otel: bool,
    no_load: bool,
    users: int,
    rate: float,
    duration: float | None,
    report: Path | None,
) -> None:
    """Start a database, a shop on it that dbwatch watches, and traffic. Ctrl-C stops all of them.

    The shop also reads POOL_SIZE, MAX_OVERFLOW, POOL_TIMEOUT and POOL_PRE_PING from the environment.
    """
    stop = StopRequest()
    try:
        with ExitStack() as running:
            port = free_port(host, port)
            check_report(report)
            settings = _database(running, database_url, workers)
            url = f"http://{_address(host)}:{port}"
            app = _app(running, settings, host, port, workers, otel=otel)
            wait_until_it_answers(app, f"{url}/health", stop)
            _announce(settings, url, embedded=database_url is None, otel=otel)
            load = None
            if not no_load:
                click.echo(f"Traffic     {users} users, at most {rate:g} requests/s")
                load = _load(running, url, users=users, rate=rate, duration=duration, report=report)
            click.echo("Ctrl-C stops everything.\n")
            _watch(app, load, duration, stop)
    except KeyboardInterrupt:
        click.echo("Stopped.")
    except (DemoError, PostgresError, SettingsError) as error:
        raise _BadInput(str(error)) from error


def _database(running: ExitStack, given_url: str | None, workers: int) -> Settings:
    """The settings with a database that answers: the given one, or one that lives as long as the demo."""
    if given_url is None:
        connections = workers * PoolSettings.load().most_connections
        server = EmbeddedPostgres(settings={"max_connections": str(max(100, connections + 10))})
        return Settings.load(database_url=running.enter_context(server).url())
    settings = Settings.load(database_url=given_url)
    check_database(settings)
    return settings


def _app(running: ExitStack, settings: Settings, host: str, port: int, workers: int, *, otel: bool) -> Program:
    environment = {"DATABASE_URL": settings.database_url}
    if workers > 1:  # Each worker writes its metrics into files here, and each answers for all.
        environment["PROMETHEUS_MULTIPROC_DIR"] = running.enter_context(TemporaryDirectory(prefix="dbwatch-metrics-"))
    factory = "demo_app.telemetry:create_app" if otel else "demo_app.app:create_app"
    arguments = ["--factory", factory, "--host", host, "--port", str(port)]
    arguments += ["--workers", str(workers), "--no-access-log", "--log-level", "warning"]
    arguments += ["--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "5"]
    return running.enter_context(Program("uvicorn", arguments, environment))


def _load(
    running: ExitStack, url: str, *, users: int, rate: float, duration: float | None, report: Path | None
) -> Program:
    arguments = [url, "--users", str(users), "--rate", str(rate)]
    if duration is not None:
        arguments += ["--duration", str(duration)]
    if report is not None:
        arguments += ["--report", str(report)]
    return running.enter_context(Program("demo_app.load", arguments, {}))


def _announce(settings: Settings, url: str, *, embedded: bool, otel: bool) -> None:
    origin = "embedded, gone afterwards" if embedded else "as given"
    click.echo(f"Database    {settings.sync_url.render_as_string(hide_password=True)} ({origin})")
    click.echo(f"Shop        {url}")
    click.echo(f"  API       {url}/docs")
    click.echo(f"  Metrics   {url}/metrics")
    if otel:
        endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere; set OTEL_EXPORTER_OTLP_ENDPOINT")
        click.echo(f"  OTLP      {endpoint}")


def _watch(app: Program, load: Program | None, duration: float | None, stop: StopRequest) -> None:
    """Return when the time is over, which the traffic knows best. Raises DemoError if a program ends before."""
    end = None if duration is None else time.monotonic() + duration
    while True:
        if app.exit_status is not None:
            raise DemoError(f"The app ended by itself with status {app.exit_status}; the reason stands above.")
        if load is not None and load.exit_status == 0:
            return
        if load is not None and load.exit_status is not None:
            raise DemoError(f"The traffic ended by itself with status {load.exit_status}; the reason stands above.")
        if load is None and end is not None and time.monotonic() >= end:
            return
        stop.pause()


def _address(host: str) -> str:
    host = _ANY_ADDRESS.get(host, host)
    return f"[{host}]" if ":" in host else host
