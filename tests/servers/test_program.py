import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.servers.program import MissingProgramError, ServerProcess, find_program
from tests.servers.waiting import eventually


def python(code: str, tmp_path: Path) -> ServerProcess:
    return ServerProcess([sys.executable, "-c", code], log=tmp_path / "log", env={"WORD": "plum"})


def test_a_missing_program_is_named_with_its_remedy() -> None:
    with pytest.raises(MissingProgramError, match="no-such-server is not installed: install it"):
        find_program("no-such-server", "install it")


def test_the_server_sees_the_environment_it_is_given_and_its_output_is_kept(tmp_path: Path) -> None:
    process = python("import os, time; print(os.environ['WORD'], flush=True); time.sleep(60)", tmp_path)
    process.wait_until(lambda: "plum" in process.output)
    assert process.running
    assert process.stop() == -signal.SIGTERM
    assert not process.running


def test_a_server_that_ends_at_once_raises_with_its_last_words(tmp_path: Path) -> None:
    process = python("raise SystemExit('no data directory')", tmp_path)
    with pytest.raises(RuntimeError, match="no data directory"):
        process.wait_until(lambda: False)


def test_a_server_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    process = python("import time; time.sleep(60)", tmp_path)
    with pytest.raises(RuntimeError, match=r"not ready after 0\.2 s"):
        process.wait_until(lambda: False, timeout=0.2)
    assert not process.running


def test_stopping_kills_the_children_that_the_server_left_behind(tmp_path: Path) -> None:
    orphan = "import time; time.sleep(60)"
    process = python(
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {orphan!r}]).pid, flush=True);{orphan}",
        tmp_path,
    )
    process.wait_until(lambda: process.output)
    child = psutil.Process(int(process.output))
    assert os.getsid(child.pid) == process.pid
    process.stop(signal.SIGKILL)
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
