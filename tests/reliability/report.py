"""The parts of docs/reliability.md that are written by what has been run."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def write(part: str, text: str) -> None:
    """Replace what the page says of a part, and date it."""
    dated = f"{text}\n\nRun on {datetime.now(UTC):%Y-%m-%d}."
    page = PAGE.read_text("utf-8")
    replaced, count = re.subn(
        rf"(<!-- {part} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{dated}\n{m[2]}", page, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{PAGE} must have one place for {part}: <!-- {part} --> … <!-- end -->, but has {count}")
    PAGE.write_text(replaced, "utf-8")
