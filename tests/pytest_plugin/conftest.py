import re
from collections.abc import Callable
from pathlib import Path

import pytest

from demo_app.postgres import EmbeddedPostgres
from tests.pytest_plugin.sample.mistakes import POSTGRES

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).parent / "sample"

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest in a process of its own, in an empty directory: ``run("--dbwatch")``."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    def in_process_of_its_own(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess(*arguments, timeout=150)

    return in_process_of_its_own


@pytest.fixture
def run_sample(pytester: pytest.Pytester, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs files of the sample project where they stand, so that findings name its lines."""
    monkeypatch.setenv(POSTGRES, postgres.url("psycopg"))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.chdir(ROOT)

    def in_process_of_its_own(*arguments: str) -> pytest.RunResult:
        files = [str(SAMPLE / argument) if argument.endswith(".py") else argument for argument in arguments]
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *files, timeout=150)

    return in_process_of_its_own


def reports(result: pytest.RunResult) -> dict[str, str]:
    """What the run says of each test that failed, by the name of the test."""
    parts = re.split(
        r"^_{3,} (?:ERROR at \w+ of )?(\S+) _{3,}$|^={3,} .* ={3,}$", result.stdout.str(), flags=re.MULTILINE
    )
    told: dict[str, str] = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        if name:
            told[name] = told.get(name, "") + text
    return told
