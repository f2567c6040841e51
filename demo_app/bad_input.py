"""How the commands refuse: one line, status 2."""

import click


class BadInput(click.ClickException):
    """Shown as one line."""

    exit_code = 2
