"""``dbwatch dashboards`` and ``dbwatch rules``: write the dashboards and the rules into a directory."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from dbwatch.cli.extras import needs
from dbwatch.outputs.grafana.links import GRAFANA_URL, RUNBOOKS_URL
from dbwatch.outputs.grafana.rules import rule_files
from dbwatch.outputs.grafana.thresholds import RuleOptions, Thresholds, threshold_fields

_out = click.option(
    "--out",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory to write into; made if it is not there.",
)
_runbooks = click.option("--runbooks-url", default=RUNBOOKS_URL, show_default=True, help="Where the runbooks are read.")


@click.command(
    epilog="""\b
Examples:
  dbwatch dashboards --out grafana/dashboards
  dbwatch dashboards --out grafana/dashboards --datasource-uid mimir
"""
)
@_out
@_runbooks
@click.option(
    "--datasource-uid", default="", help="Uid of the Prometheus data source to start with; else the default one."
)
def dashboards(directory: Path, runbooks_url: str, datasource_uid: str) -> None:
    """Write the Grafana dashboards as JSON files."""
    with needs("grafana"):
        from dbwatch.outputs.grafana.dashboards import dashboard_files  # noqa: PLC0415 - the SDK is an extra
        from dbwatch.outputs.grafana.frame import DashboardOptions  # noqa: PLC0415 - the SDK is an extra
    options = DashboardOptions(datasource_uid=datasource_uid, runbooks_url=runbooks_url)
    _write(directory, dashboard_files(options))


def _threshold_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, field in reversed(list(threshold_fields().items())):
        option = click.option(
            f"--{name.replace('_', '-')}",
            type=float,
            default=field.default,
            show_default=True,
            help=field.metadata["help"],
        )
        command = option(command)
    return command


@click.command(
    epilog="""\b
Examples:
  dbwatch rules --out prometheus/rules --job shop
  dbwatch rules --out prometheus/rules --selector 'env="prod"' --group-by namespace
"""
)
@_out
@_runbooks
@click.option("--grafana-url", default=GRAFANA_URL, show_default=True, help="Where Grafana is; alerts link to it.")
@click.option("--selector", default="", help='Matchers added to every selector, as env="prod",pool!="listener".')
@click.option("--job", "jobs", multiple=True, help="A job whose absence is an alert even if it was never seen.")
@click.option("--group-by", multiple=True, help="A label that tells installations apart besides job, as namespace.")
@_threshold_options
def rules(
    *,
    directory: Path,
    runbooks_url: str,
    grafana_url: str,
    selector: str,
    jobs: tuple[str, ...],
    group_by: tuple[str, ...],
    **thresholds: Any,
) -> None:
    """Write the Prometheus recording and alerting rules as YAML files."""
    try:
        options = RuleOptions(Thresholds(**thresholds), selector, jobs, group_by, runbooks_url, grafana_url)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _write(directory, rule_files(options))


def _write(directory: Path, files: Mapping[str, str]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
            click.echo(directory / name)
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename or directory}: {error.strerror}") from None
