"""Where the guilty line of a builder stands, as findings write it."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = "# guilty"


def guilty_lines(build: Callable[..., Any]) -> list[str]:
    """``file:line`` of each line of a function that ends in the mark."""
    lines, first = inspect.getsourcelines(build)
    file = Path(inspect.getfile(build)).relative_to(Path.cwd())
    return [f"{file}:{number}" for number, line in enumerate(lines, first) if line.rstrip().endswith(MARK)]


def place(line: str) -> str:
    """The ``file:line`` of a finding's ``file:line function``."""
    return line.partition(" ")[0]
