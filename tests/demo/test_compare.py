"""The comparison as a command: shortened, with everything real."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from demo_app.command import main
from tests.demo.conftest import runs
from tests.servers.program import ServerProcess
from tests.servers.waiting import eventually

COMPARE = [sys.executable, "-m", "demo_app", "compare"]
#: What these scenarios are not about must not be found because the machine is busy.
PATIENT = {"DBWATCH_IDLE_HOLD_SECONDS": "60", "DBWATCH_SLOW_CHECKOUT_SECONDS": "60"}


def compare(temporary: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMPARE, *options],
        env={**os.environ, **PATIENT, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_a_shortened_run_measures_finds_and_saves_everything(temporary: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    short = ("--rounds=1", "--seconds=0.6", "--warm-up=0.4", f"--out={out}", "--plot")
    ended = compare(temporary, *short, "missing-commit", "no-pre-ping")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "As it should be" in ended.stdout
    assert "[2/2] no-pre-ping" in ended.stdout
    saved: dict[str, Any] = json.loads((out / "comparison.json").read_text())
    commit, ping = saved["rows"]
    for row in (commit, ping):
        assert row["shortcomings"] == []
        for variant in row["variants"]:
            assert variant["requests_per_second"] > 0
            assert 0 < variant["p50"] <= variant["p95"]
    broken, fixed = commit["variants"]
    assert (broken["figure"], fixed["figure"]) == (1.0, 0.0)
    assert {one["finding"] for one in broken["findings"]} == {"lost_write"}
    assert ping["variants"][0]["errors"] > ping["variants"][1]["errors"] == 0
    table = (out / "comparison.md").read_text()
    assert table.count("| `lost_write` missing_commit.py:") == 1
    assert "| `no-pre-ping` | A database restart breaks an app without pre-ping. | " in table
    assert "cores, " in table
    assert sorted(path.name for path in out.glob("*.png")) == ["missing-commit.png", "no-pre-ping.png"]
    assert not list(temporary.iterdir())


def test_a_stopped_comparison_leaves_nothing(temporary: Path, tmp_path: Path) -> None:
    run = ServerProcess(
        [*COMPARE, "--seconds=0.5", f"--out={tmp_path}"], log=tmp_path / "log", env={"TMPDIR": str(temporary)}
    )
    run.wait_until(lambda: "requests/s" in run.output)
    programs = psutil.Process(run.pid).children(recursive=True)
    assert programs
    assert run.stop(signal.SIGINT, timeout=60) == 130, run.output
    assert run.output.endswith("Stopped.\n")
    eventually(lambda: not any(map(runs, programs)))
    assert not list(temporary.iterdir())


def test_an_option_of_the_demo_is_not_ignored_without_a_word() -> None:
    result = CliRunner().invoke(main, ["--port=1", "compare"])
    assert result.exit_code == 2
    assert "--port has no effect on compare; leave it out" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["n-plus-two"], "There is no scenario 'n-plus-two'; did you mean n-plus-one? `python -m demo_app --list`"),
        (["--out=/dev/null/x"], "--out /dev/null/x: not a directory; name a directory that can be written."),
    ],
)
def test_bad_input_is_one_sentence_with_the_way_out(temporary: Path, options: list[str], message: str) -> None:
    ended = compare(temporary, *options)
    assert ended.returncode == 2
    assert not ended.stdout
    [line] = ended.stderr.splitlines()
    assert message in line
    assert not list(temporary.iterdir())
