"""The commands on the pages: what they install exists, what they call is there, and their options are accepted."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.documents.pages import PAGES, ROOT, blocks

LINES = [
    (f"{block.page}:{block.line}", line)
    for page in PAGES
    for block in blocks(page)
    if block.language == "sh"
    for line in block.text.splitlines()
]


def installs(words: list[str]) -> None:
    """pip: everything named is installed here, and an extra of ours is one."""
    assert words[:1] == ["install"]
    for word in words[1:]:
        if word in {"-q", "-e"}:
            continue
        wanted = Requirement(word.replace(".", "dbwatch", 1) if word.startswith(".") else word)
        assert metadata.version(wanted.name)
        if wanted.name == "dbwatch":
            assert wanted.extras <= set(metadata.metadata("dbwatch").get_all("Provides-Extra") or ())


@cache
def helped(*command: str) -> None:
    """A module's command line reads its options, finds them right, and stops at ``--help``."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"],
        cwd=ROOT / "docs",  # not the root, where pytest would load all that its tests need
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout.lower()


def accepts(module: str) -> Callable[[list[str]], None]:
    """A program that is the command line of a module."""
    return lambda words: helped(module, *words)


def runs_a_module(words: list[str]) -> None:
    """Python -m: as the module's own command line."""
    if words[:2] == ["-m", "venv"]:
        assert len(words) == 3
    else:
        assert words[0] == "-m"
        helped(*words[1:])


def composes(words: list[str]) -> None:
    """docker: what starts the compose file of this repository."""
    assert words[:2] == ["compose", "up"]
    assert (ROOT / "docker-compose.yml").is_file()


def needs_nothing(words: list[str]) -> None:
    """A command of the shell, or one that the test of its page runs."""
    assert words


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    ".": needs_nothing,
    "celery": needs_nothing,
    "curl": needs_nothing,
    "export": needs_nothing,
    "grep": needs_nothing,
    "mkdir": needs_nothing,
    "rm": needs_nothing,
    "dbwatch": accepts("dbwatch.cli"),
    "docker": composes,
    "pip": installs,
    "pytest": accepts("pytest"),
    "python": runs_a_module,
    "uvicorn": accepts("uvicorn"),
}


def commands(line: str) -> list[list[str]]:
    """The commands of a line, as the shell would split it."""
    lexer = shlex.shlex(line.partition(" #")[0], posix=True, punctuation_chars="&|")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|"):
            found.append([])
        elif found[-1] or not re.match(r"\w+=", word):  # not a variable for this command
            found[-1].append(word)
    return found


@pytest.mark.parametrize(("place", "line"), LINES, ids=[place for place, _ in LINES])
def test_a_command_on_a_page_can_be_given(place: str, line: str) -> None:
    subprocess.run(["bash", "-n", "-c", line], check=True)
    first, *piped = commands(line)
    assert first or not line.strip() or line.startswith("#"), place
    for program, *words in filter(None, [first, *piped]):
        name = program.removeprefix(".venv/bin/").replace("python3", "python")
        PROGRAMS[name](words)
