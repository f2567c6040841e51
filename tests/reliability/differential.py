"""What others test of their own code, run bare and with dbwatch: ``python -m tests.reliability.differential``.

The tests of SQLAlchemy's pool, engine and asyncio extension and those of Starlette and FastAPI, from their source
distributions of the versions that are installed. It fails unless every test that is not KNOWN has the same outcome in
both runs.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import psycopg

from demo_app.postgres import EmbeddedPostgres
from tests.reliability import report

_CORE = ("pool", "reconnect", "transaction", "execute", "logging", "deprecations")
_TESTS = [*(f"test/engine/test_{name}.py" for name in _CORE), "test/base/test_events.py", "test/ext/asyncio"]
_SECONDS = 1800
#: Tests that ask for what dbwatch cannot give, and why.
KNOWN = {"test_connection_info": "Connection.info must hold nothing else; dbwatch keeps the hold there, under its name"}


@dataclass(frozen=True)
class Suite:
    """Tests of a package, and what they run on."""

    package: str
    name: str
    arguments: tuple[str, ...]
    #: The plugin that runs it with dbwatch.
    watched: str = "watched_apps"


def suites(postgres: EmbeddedPostgres) -> list[Suite]:
    """All suites."""
    found = [
        Suite("sqlalchemy", driver, (*_TESTS, f"--dburi={url}"), "watched_sqlalchemy")
        for driver, url in (
            ("pysqlite", "sqlite:///:memory:"),
            ("aiosqlite", "sqlite+aiosqlite:///:memory:"),
            *((driver, postgres.url(driver)) for driver in ("psycopg", "asyncpg", "psycopg_async")),
        )
    ]
    apps = ("tests", "-p", "no:asyncio")
    # The script that makes FastAPI's releases is not part of FastAPI.
    fastapi = Suite("fastapi", "TestClient", (*apps, "--ignore=tests/test_prepare_release.py"))
    return [*found, Suite("starlette", "TestClient", apps), fastapi]


def outcomes(suite: Suite, source: Path, plugin: str) -> tuple[dict[str, str], dict[str, float]]:
    """Run a suite. Returns how each test ended, and what dbwatch says of the run."""
    results, said = source / "results.xml", source / "said.json"
    results.unlink(missing_ok=True)
    said.unlink(missing_ok=True)
    # Not through our package of tests: theirs have the same name.
    plugins = str(Path(__file__).with_name("plugins"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, *suite.arguments]
    subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:pytest_dbwatch", f"--junitxml={results}"],
        cwd=source,
        env={**os.environ, "PYTHONPATH": plugins, "DBWATCH_SAID": str(said)},
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=_SECONDS,
    )
    found: dict[str, str] = {}
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        ended = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[name] = ended[0] if ended else "passed"
    return found, json.loads(said.read_text()) if said.exists() else {}


def unpack(package: str, directory: Path) -> Path:
    """The source distribution of the installed version."""
    wanted = f"{package}=={version(package)}"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", f"--no-binary={package}", "-d", str(directory)]
    subprocess.run([*pip, wanted], check=True)
    (archive,) = directory.glob(f"{package}-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


def prepare(postgres: EmbeddedPostgres) -> None:
    """The schemas that SQLAlchemy's tests expect."""
    with closing(psycopg.connect(postgres.url().replace("+psycopg", ""), autocommit=True)) as connection:
        for schema in ("test_schema", "test_schema_2"):
            connection.execute(f"CREATE SCHEMA {schema}".encode())


def row(suite: Suite, bare: Mapping[str, str], watched: Mapping[str, str], said: Mapping[str, float]) -> list[object]:
    """A line of the table."""
    ended = Counter(bare.values())
    different = sum(bare.get(name) != watched.get(name) for name in {*bare, *watched})
    failed = ended["failure"] + ended["error"]
    counts = [ended["passed"], failed, ended["skipped"], different, int(said["seen"]), int(said["errors"])]
    return [f"{suite.package} {version(suite.package)}", suite.name, *counts]


def main() -> None:
    """Run everything and write the table. Exits with the tests that differ."""
    rows, wrong = [], []
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres() as postgres:
        prepare(postgres)
        sources = {package: unpack(package, Path(directory)) for package in ("sqlalchemy", "starlette", "fastapi")}
        for suite in suites(postgres):
            source = sources[suite.package]
            bare, _ = outcomes(suite, source, "bare_run")
            watched, said = outcomes(suite, source, suite.watched)
            differences = [
                f"{suite.name} {name}: {bare.get(name)} without dbwatch, {watched.get(name)} with it"
                for name in sorted({*bare, *watched})
                if bare.get(name) != watched.get(name)
            ]
            wrong += [found for found in differences if not any(f"::{name}:" in found for name in KNOWN)]
            if not said.get("seen") or "passed" not in bare.values():
                wrong.append(f"{suite.package} on {suite.name}: nothing passed, or dbwatch has seen nothing: {said}")
            rows.append(row(suite, bare, watched, said))
            sys.stdout.write("\n".join([str(rows[-1]), *differences, ""]))
            sys.stdout.flush()
    heading = (
        "tests of",
        "on",
        "passed",
        "failed",
        "skipped",
        "differences",
        "checkouts or requests seen",
        "our errors",
    )
    report.write("differential", report.table(heading, rows))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
