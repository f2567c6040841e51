"""The command line: ``dbwatch``. Needs the extra ``cli``; single commands need the extra they name."""

from importlib import import_module


def main() -> None:
    """Entry point of the script; without click, one sentence that says how to get it."""
    try:
        commands = import_module("dbwatch.cli.commands")
    except ModuleNotFoundError as missing:
        if missing.name != "click":
            raise
        raise SystemExit("The dbwatch command needs click: pip install 'dbwatch[cli]'") from None
    commands.cli(prog_name="dbwatch")
