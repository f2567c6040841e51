"""The README keeps its word: the gate calls its command, its options are all there are, and it is short."""

import re
from dataclasses import fields

from dbwatch.settings import Settings
from tests.documents.pages import PAGES, ROOT, blocks_of

README = PAGES["README.md"]


def test_the_gate_calls_the_test_command_of_the_readme() -> None:
    command = blocks_of(README, "sh")[1].strip()
    assert command.endswith("-m pytest -n 2")
    assert command in (ROOT / ".ci" / "run").read_text()


def test_the_readme_names_every_option_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", README, re.MULTILINE))
    assert set(rows) >= {field.name for field in fields(Settings)}


def test_the_readme_stays_under_250_lines() -> None:
    assert len(README.splitlines()) < 250
