"""The group of commands. Each command is loaded when it is asked for, so that none pays for the imports of another."""

from importlib import import_module

import click

from dbwatch.version import __version__

#: Where each command lives.
COMMANDS = {
    "check": "dbwatch.cli.check",
    "dashboards": "dbwatch.cli.grafana",
    "explain": "dbwatch.cli.explain",
    "rules": "dbwatch.cli.grafana",
}


class Commands(click.Group):
    """A group that knows its commands by name and loads them late."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command, or None if there is none of that name."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(import_module(module), cmd_name)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  dbwatch check http://localhost:8000/dbwatch
  dbwatch explain leaked_connection
  dbwatch dashboards --out grafana/dashboards
  dbwatch rules --out prometheus/rules --job shop
""",
)
@click.version_option(__version__, message="dbwatch %(version)s")
def cli() -> None:
    """Tools around dbwatch, the watch on SQLAlchemy connection pools."""
