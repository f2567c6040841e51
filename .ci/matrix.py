"""Runs the tests on old and new versions of what dbwatch stands on, each in its own virtual environment.

Run by a Python that has pip; writes docs/matrix.md. Words on the command line select rows: only those that contain
every word are run, and the page keeps what it says of the others.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "matrix.md"
SHOWN = ("sqlalchemy", "fastapi", "starlette", "prometheus-client")
RESULTS = ("passed", "failed", "skipped", "seconds", "run on")
INSTALL_SECONDS, TEST_SECONDS = 900, 2400
PIP = (sys.executable, "-m", "pip")

SQLALCHEMY_2_0, SQLALCHEMY_2_1 = "sqlalchemy==2.0.*", "sqlalchemy==2.1.*"
#: The newest FastAPI of November 2025 with the AnyIO of its time, and the newest one.
YEAR_BACK, NEWEST = ("fastapi==0.121.3", "anyio==4.11.0"), ("fastapi",)


def lowest() -> tuple[str, ...]:
    """The lower bounds of the package's own dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return tuple(requirement.replace(">=", "==") for requirement in project["dependencies"])


#: The gate runs on 3.11 with the newest of all.
ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("3.11", (*lowest(), *YEAR_BACK)),
    ("3.11", (SQLALCHEMY_2_1, *YEAR_BACK)),
    ("3.12", (SQLALCHEMY_2_0, *NEWEST)),
    ("3.13", (SQLALCHEMY_2_1, *NEWEST)),
    ("3.14", (SQLALCHEMY_2_0, *NEWEST)),
    ("3.15", (SQLALCHEMY_2_1, *NEWEST)),
)
#: What stands on other people's versions. Of the rest, the gate runs all on the newest.
TESTS = ("advice", "app", "bookkeeping", "core", "findings", "otel", "realworld", "testing")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the report."""

    python: str
    versions: tuple[str, ...]
    #: Tests passed, failed and skipped, and seconds; or why there are none.
    result: tuple[object, ...]
    passed: bool

    def __str__(self) -> str:
        cells = (self.python, *self.versions, *self.result, *[""] * (len(RESULTS) - len(self.result)))
        return f"| {' | '.join(map(str, cells))} |"


def interpreter(python: str) -> str:
    """The one that ``.ci/get-python`` has fetched, which finds its library from where it lies, or the machine's own."""
    fetched = ROOT / ".tools" / "bin" / f"python{python}"
    return str(fetched.resolve()) if fetched.exists() else f"python{python}"


def run(python: str, requirements: tuple[str, ...], directory: Path) -> Outcome:
    """Install into ``directory`` and run the tests there."""
    # With pyenv, a version that is not the global one must be asked for.
    environment = {**os.environ, "CI": "true", "PYENV_VERSION": python}
    virtual = directory / "bin" / "python"
    wanted = tuple(next((word for word in requirements if word.split("==")[0] == name), "") for name in SHOWN)
    try:
        for command in (
            [interpreter(python), "-m", "venv", "--without-pip", str(directory)],  # which not every Python has
            [*PIP, "--python", str(virtual), "install", "-q", "-e", f"{ROOT}[test]", *requirements],
        ):
            subprocess.run(command, env=environment, check=True, timeout=INSTALL_SECONDS)
    except FileNotFoundError:
        return Outcome(python, wanted, ("this Python is not installed here",), passed=False)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return Outcome(python, wanted, (f"could not be installed: {error}",), passed=False)

    listed = subprocess.check_output([*PIP, "--python", str(virtual), "list", "--format=json"], text=True)
    installed = {package["name"].lower().replace("_", "-"): package["version"] for package in json.loads(listed)}
    full = subprocess.check_output([virtual, "-c", "import platform; print(platform.python_version())"], text=True)
    versions = tuple(installed[name] for name in SHOWN)

    results = directory / "results.xml"
    start = time.monotonic()
    pytest = [virtual, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", f"--junitxml={results}"]
    pytest += [f"tests/{part}" for part in TESTS]
    try:
        status = subprocess.run(pytest, cwd=ROOT, env=environment, check=False, timeout=TEST_SECONDS).returncode
        suite = ElementTree.parse(results).getroot().find("testsuite")
    except (subprocess.TimeoutExpired, FileNotFoundError) as error:
        return Outcome(full.strip(), versions, (f"did not finish: {error}",), passed=False)
    assert suite is not None
    count = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    result = (passed, failed, count["skipped"], round(time.monotonic() - start), f"{datetime.now(UTC):%Y-%m-%d}")
    return Outcome(full.strip(), versions, result, passed=status == 0)


def main() -> int:
    """Run the selected rows and write the report. Returns 1 if a row failed."""
    words = sys.argv[1:]
    known = rows_of(REPORT.read_text()) if REPORT.exists() else []
    outcomes: list[Outcome | str] = (
        [*known] if len(known) == len(ROWS) else [f"| {row[0]} | not run yet |" for row in ROWS]
    )
    passed = True
    for number, (python, requirements) in enumerate(ROWS):
        if not all(word in f"{python} {' '.join(requirements)}" for word in words):
            continue
        print(f"\n--- {number + 1} of {len(ROWS)}: Python {python}, {', '.join(requirements)}", flush=True)
        directory = Path(tempfile.mkdtemp(prefix="dbwatch-matrix-"))
        directory.chmod(0o755)  # PostgreSQL runs from there as another user.
        try:
            outcome = run(python, requirements, directory)
        finally:
            shutil.rmtree(directory)
        print(outcome, flush=True)
        outcomes[number] = outcome
        passed = passed and outcome.passed
    REPORT.write_text(report(outcomes))
    return 0 if passed else 1


def rows_of(page: str) -> list[str]:
    """The rows of a page that was written before."""
    return [line for line in page.splitlines() if line.startswith("| 3.")]


def report(outcomes: list[Outcome | str]) -> str:
    """The page that is committed."""
    heading = ("Python", *SHOWN, *RESULTS)
    lines = [
        "# Versions that the tests ran on",
        "",
        "Written by `.ci/long matrix`, each row in a virtual environment of its own,",
        "everything else at its newest version: the tests of the hooks, the bookkeeping, the findings, the middleware",
        "and OpenTelemetry. The gate runs those and all others on Python 3.11 with the newest of",
        "everything. The first row has the lower bounds of the package's own dependencies.",
        "",
        f"| {' | '.join(heading)} |",
        f"|{'---|' * len(heading)}",
        *map(str, outcomes),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
