"""The command: database, app and traffic, started together and stopped together."""

from contextlib import ExitStack
from pathlib import Path

import click
from click.core import ParameterSource

from demo_app.bad_input import BadInput
from demo_app.compare.command import compare
from demo_app.guide import Act, Guide
from demo_app.postgres import EmbeddedPostgres, PostgresError
from demo_app.preflight import check_database, check_report, free_port
from demo_app.processes import DemoError, StopRequest
from demo_app.scenarios import SCENARIOS
from demo_app.scenarios.find import find_scenario
from demo_app.settings import PoolSettings, Settings, SettingsError
from demo_app.show import Show, Traffic, check_scenario


@click.group(
    invoke_without_command=True, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]}
)
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
@click.option("--scenario", metavar="NAME", help="Begin with this mistake and the load that shows it.")
@click.option("--fixed", is_flag=True, help="Begin with the correction of the mistake instead.")
@click.option("--list", "list_them", is_flag=True, help="List the scenarios and exit.")
@click.option("--no-load", is_flag=True, help="Send no traffic.")
@click.option("--users", type=click.IntRange(1, 1000), default=10, help="Users of the traffic of the shop.")
@click.option(
    "--rate", type=click.FloatRange(0, 10_000, min_open=True), default=50.0, help="Requests a second, at most."
)
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds to run; without it, until Ctrl-C.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False, writable=True, resolve_path=True),
    help="At the end, write what the traffic sent and got to this file, as JSON.",
)
@click.pass_context
def main(
    context: click.Context,
    *,
    host: str,
    port: int,
    database_url: str | None,
    workers: int,
    otel: bool,
    scenario: str | None,
    fixed: bool,
    list_them: bool,
    no_load: bool,
    users: int,
    rate: float,
    duration: float | None,
    report: Path | None,
) -> None:
    """Start a database, a shop on it that dbwatch watches, and traffic. Ctrl-C stops all of them.

    The shop also reads POOL_SIZE, MAX_OVERFLOW, POOL_TIMEOUT and POOL_PRE_PING from the environment. The guide, whose
    address is printed, switches between mistakes and corrections while all runs.
    """
    if context.invoked_subcommand is not None:
        _refuse_lost_options(context, context.invoked_subcommand)
        return
    if list_them:
        for one in SCENARIOS.values():
            click.echo(f"{one.name:20} {one.mistake} ({', '.join(variant.name for variant in one.variants)})")
        return
    stop = StopRequest()
    try:
        with ExitStack() as running:
            port = free_port(host, port)
            check_report(report)
            act = _act(scenario, fixed=fixed)
            server, settings = _database(running, database_url, workers, act, report)
            show = Show(
                settings,
                server=server,
                host=host,
                port=port,
                workers=workers,
                otel=otel,
                traffic=Traffic(not no_load, users, rate, report),
                stop=stop,
            )
            guide = Guide(_guide_port(port), show.url, _refusals(settings, embedded=server is not None, report=report))
            show.play(act, running.enter_context(guide), duration)
    except KeyboardInterrupt:
        click.echo("Stopped.")
    except (DemoError, PostgresError, SettingsError) as error:
        raise BadInput(str(error)) from error


main.add_command(compare)


def _refuse_lost_options(context: click.Context, command: str) -> None:
    """Options of the demo in front of a command would be ignored without a word."""
    for option in context.command.params:
        if context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            raise BadInput(
                f"{option.opts[0]} has no effect on {command}; leave it out, or put {command}'s own after it."
            )


def _act(name: str | None, *, fixed: bool) -> Act:
    if name is None:
        if fixed:
            raise DemoError("--fixed is the correction of a mistake; name one with --scenario.")
        return Act()
    scenario = find_scenario(name)
    return Act(scenario, scenario.fixed if fixed else scenario.broken)


def _database(
    running: ExitStack, given_url: str | None, workers: int, act: Act, report: Path | None
) -> tuple[EmbeddedPostgres | None, Settings]:
    """The settings with a database that answers: the given one, or one that lives as long as the demo."""
    if given_url is not None:
        settings = Settings.load(database_url=given_url)
        if act.scenario is not None:
            check_scenario(act.scenario, embedded=False, settings=settings, report=report)
        check_database(settings)
        return None, settings
    connections = workers * PoolSettings.load().most_connections
    # Scenarios have pools of up to 30, and an engine in each request has as many as it likes.
    server = EmbeddedPostgres(settings={"max_connections": str(max(100, connections + 10) + 200 * workers)})
    settings = Settings.load(database_url=server.url())
    if act.scenario is not None:
        check_scenario(act.scenario, embedded=True, settings=settings, report=report)
    return running.enter_context(server), settings


def _refusals(settings: Settings, *, embedded: bool, report: Path | None) -> dict[str, str]:
    """Why which scenarios cannot be shown, as the guide says it."""
    refusals = {}
    for scenario in SCENARIOS.values():
        try:
            check_scenario(scenario, embedded=embedded, settings=settings, report=report)
        except DemoError as error:
            refusals[scenario.name] = str(error)
    return refusals


def _guide_port(port: int) -> int:
    """The port after the app's, or a free one."""
    try:
        return free_port("127.0.0.1", port + 1 if port < 65535 else 0)
    except DemoError:
        return free_port("127.0.0.1", 0)
