"""The pages of the repository, and the blocks of code on them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Every page by its path in the repository, as "docs/start.md".
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
}
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is where its text begins on the page."""

    page: str
    line: int
    language: str
    text: str


def blocks_of(text: str, language: str) -> list[str]:
    """The blocks of one language in a text, in order."""
    return [code for found, code in _FENCE.findall(text) if found == language]


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in order."""
    text = PAGES[page]
    return [Block(page, text.count("\n", 0, found.start(2)) + 1, found[1], found[2]) for found in _FENCE.finditer(text)]


def prose(page: str) -> str:
    """A page without its blocks and without code in its lines."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", PAGES[page]))
