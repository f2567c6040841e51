"""A result about mutants is worth nothing if the tests fail without them."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.reliability.mutation import environment, seconds_unchanged, until_one_fails_twice

TESTS = """\
import time
from pathlib import Path

def test_of_the_module():
    assert {first}

def test_of_one_line_alone():
    assert {second}
"""
FAILS_ONCE = "Path('failed').exists() or Path('failed').touch()"


def observed(copy: Path, first: str, second: str, **of_line: list[int]) -> dict[str, str]:
    """Two tests, by what they assert, and which of them run a line; the environment in which they are run."""
    (copy / "test_books.py").write_text(TESTS.format(first=first, second=second))
    file = copy / "observed.json"
    tests = ["test_books.py::test_of_the_module", "test_books.py::test_of_one_line_alone"]
    file.write_text(json.dumps({"tests": tests, "chosen": {"dbwatch/books.py": of_line}}))
    return environment(copy, MUTANTS_OBSERVED=str(file))


def seconds(copy: Path, second: str) -> float:
    return seconds_unchanged("books", copy, observed(copy, "True", second, **{"0": [0], "7": [1]}))


def notices(copy: Path, first: str, second: str) -> bool:
    """Whether the two tests notice a mutant, both of which run its line."""
    env = observed(copy, first, second, **{"1": [0, 1]})
    for directory, code in ((copy / "pristine", "1"), (copy, "2")):
        (directory / "dbwatch").mkdir(parents=True, exist_ok=True)
        (directory / "dbwatch" / "books.py").write_text(code)
    env["MUTANTS_PRISTINE"] = str(copy / "pristine")
    command = ["bash", "-c", until_one_fails_twice(copy, limit=10)]
    return subprocess.run(command, cwd=copy, env=env, check=False).returncode != 0


def test_what_the_tests_of_mutants_take_is_measured_on_the_unchanged_code(tmp_path: Path) -> None:
    assert seconds(tmp_path, "True") > 0


def test_no_mutant_is_tested_by_a_test_that_fails_without_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"tests of books fail on the unchanged code(.|\n)*test_of_one_line_alone"):
        seconds(tmp_path, "False")


def test_a_test_that_fails_now_and_then_is_run_again_by_itself(tmp_path: Path) -> None:
    assert seconds(tmp_path, FAILS_ONCE) > 0


@pytest.mark.parametrize(
    ("first", "second", "noticed"),
    [
        ("True", "True", False),
        ("False", "True", True),
        ("True", "False", True),
        (FAILS_ONCE, "True", False),
        (FAILS_ONCE, "False", True),
        ("time.sleep(60) is None", "True", True),
    ],
)
def test_a_mutant_is_noticed_if_one_test_fails_twice(tmp_path: Path, first: str, second: str, *, noticed: bool) -> None:
    assert notices(tmp_path, first, second) is noticed
