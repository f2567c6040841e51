"""Commands whose libraries are an extra say so in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports: a missing library becomes an error that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "dbwatch":
            raise
        name = missing.name.partition(".")[0]
        raise click.ClickException(f"this command needs {name}: pip install 'dbwatch[{extra}]'") from None
