"""``dbwatch explain``: what a finding is, what proves it, and what to change."""

import textwrap

import click

from dbwatch.catalog import FINDINGS
from dbwatch.catalog.findings import FindingKind

_WIDTH = 100


@click.command(
    epilog="""\b
Examples:
  dbwatch explain
  dbwatch explain leaked_connection
"""
)
@click.argument("name", required=False)
def explain(name: str | None) -> None:
    """Say what the finding NAME means, what proves it and what to change; without a name, list all findings."""
    if name is None:
        longest = max(map(len, FINDINGS))
        for kind in FINDINGS.values():
            click.echo(f"{kind.name:<{longest}}  {kind.title}")
        return
    if name not in FINDINGS:
        raise click.ClickException(f"there is no finding {name!r}; the findings are {', '.join(FINDINGS)}.")
    click.echo(_essentials(FINDINGS[name]))


def _essentials(kind: FindingKind) -> str:
    parts = (("Cause", kind.cause), ("Fix", kind.fix), ("Proof", kind.proof), ("Page", kind.page))
    lines = [f"{kind.name}: {kind.title}", ""]
    for title, text in parts:
        indent = " " * 7
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=f"{title:<7}",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
