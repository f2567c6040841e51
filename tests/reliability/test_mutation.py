"""A result about mutants is worth nothing if the tests fail without them."""

import json
from pathlib import Path

import pytest

from tests.reliability.mutation import environment, seconds_unchanged

TESTS = """\
from pathlib import Path

def test_that_passes():
    pass

def test_of_one_line_alone():
    assert {holds}
"""


def seconds(copy: Path, holds: str) -> float:
    (copy / "test_books.py").write_text(TESTS.format(holds=holds))
    observed = copy / "observed.json"
    tests = ["test_books.py::test_that_passes", "test_books.py::test_of_one_line_alone"]
    observed.write_text(json.dumps({"tests": tests, "chosen": {"dbwatch/books.py": {"0": [0], "7": [1]}}}))
    return seconds_unchanged("books", copy, environment(copy, MUTANTS_OBSERVED=str(observed)))


def test_what_the_tests_of_mutants_take_is_measured_on_the_unchanged_code(tmp_path: Path) -> None:
    assert seconds(tmp_path, "True") > 0


def test_no_mutant_is_tested_by_a_test_that_fails_without_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"tests of books fail on the unchanged code(.|\n)*test_of_one_line_alone"):
        seconds(tmp_path, "False")


def test_a_test_that_fails_now_and_then_is_run_again_by_itself(tmp_path: Path) -> None:
    first = "Path('failed').exists() or Path('failed').touch()"
    assert seconds(tmp_path, first) > 0
