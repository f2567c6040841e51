"""``dbwatch check URL``: is a running app well, and what should change?"""

import textwrap
from collections.abc import Iterator
from typing import Final

import click

from dbwatch.cli.reading import Seen, SeenPool, UnreadableError, read
from dbwatch.outputs.live.document import Level

_WIDTH: Final = 110
_STATUS: Final[dict[Level, int]] = {"ok": 0, "warning": 1, "critical": 2}
#: Findings listed, latest first.
_LISTED: Final = 10


class _Unreadable(click.ClickException):
    exit_code = 3


@click.command(
    epilog="""\b
Examples:
  dbwatch check http://localhost:8000/dbwatch
  dbwatch check https://shop.example.com/dbwatch --user operator:PASSWORD
  dbwatch check http://localhost:8000/metrics --seconds 120
"""
)
@click.argument("url")
@click.option(
    "--user",
    default="",
    envvar="DBWATCH_DASHBOARD_AUTH",
    metavar="NAME:PASSWORD",
    help="Who may see the live page; else the environment variable DBWATCH_DASHBOARD_AUTH.",
)
@click.option(
    "--seconds",
    default=1,
    show_default=True,
    type=click.IntRange(1, 3600),
    help="How long to watch a metrics page, a scrape a second. Advice on the size takes 120. The live page looks back "
    "ten minutes by itself.",
)
def check(url: str, user: str, seconds: int) -> None:
    """Say how the pools of the running app behind URL are and what should change.

    URL is the address of its live page, which knows most, or of its metrics.

    Exit status: 0 all pools are well, 1 one is under strain, 2 one is in trouble (or the command was called wrongly),
    3 the app cannot be read.
    """
    try:
        seen = read(url, user, seconds)
    except UnreadableError as error:
        raise _Unreadable(str(error)) from None
    for line in _told(seen):
        click.echo(line)
    raise SystemExit(_STATUS[seen.level])


def _told(seen: Seen) -> Iterator[str]:
    yield f"{seen.level}: {seen.verdict['text']}"
    for pool in seen.pools:
        yield ""
        yield from _of_pool(pool)
    if seen.findings:
        yield ""
        yield "Findings, latest first:"
    for group in seen.findings[:_LISTED]:
        line = f", {group['lines'][0]}" if group["lines"] else ""
        yield from _wrapped("  ", f"{group['finding']} x{group['count']} in {group['method']} {group['route']}{line}")
    if len(seen.findings) > _LISTED:
        yield f"  and {len(seen.findings) - _LISTED} more"


def _of_pool(pool: SeenPool) -> Iterator[str]:
    yield f"pool {pool.name}"
    yield from _wrapped("  ", f"{pool.verdict['level']}: {pool.verdict['text']}")
    yield from _wrapped("  ", f"size ({pool.advice['action']}): {pool.advice['text']}")
    yield from _wrapped("    ", pool.advice["arithmetic"])
    for remark in pool.remarks:
        yield from _wrapped("  ", f"{remark.setting} ({remark.name}): {remark.text}")


def _wrapped(indent: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
