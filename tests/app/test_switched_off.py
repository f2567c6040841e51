"""``DBWATCH_ENABLED=0`` is a switch for the whole process: nothing is hooked, whoever asks."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import dbwatch
from sqlalchemy import create_engine
from sqlalchemy.pool import Pool

before = Pool.connect
engine = create_engine("sqlite://")
dbwatch.install()
dbwatch.watch(engine, name="primary")
print("hooked" if Pool.connect is not before else "bare")
"""


def run(enabled: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=directory,
        env={"DBWATCH_ENABLED": enabled, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_switched_off_in_the_environment_neither_install_nor_watch_hooks_anything(tmp_path: Path) -> None:
    assert run("0", tmp_path) == "bare"


def test_switched_on_in_the_environment_install_hooks_the_pools(tmp_path: Path) -> None:
    assert run("1", tmp_path) == "hooked"
