"""The directory that the workers share."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dbwatch import ConfigurationError
from dbwatch.outputs.live.document import WorkerState
from dbwatch.outputs.live.workers import StateDirectory, check_directory, open_directory
from dbwatch.version import __version__
from tests.servers.waiting import eventually


def state_of(pid: int, at: float | None = None) -> WorkerState:
    return {
        "version": 1,
        "dbwatch": __version__,
        "pid": pid,
        "started_at": 0.0,
        "at": time.time() if at is None else at,
        "window_seconds": 1.0,
        "threads": 40,
        "processes": 1,
        "pools": [],
        "routes": [],
        "findings": [],
    }


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(check_directory(str(tmp_path / "state")))


@pytest.fixture
def other() -> subprocess.Popen[bytes]:
    """Another process, to play a worker."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_new_directory_is_for_this_user_alone(directory: StateDirectory) -> None:
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigurationError, match="mode 0700"):
        check_directory(str(tmp_path))


def test_a_link_that_somebody_planted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError):
        check_directory(str(tmp_path / "link"))


def test_the_default_is_the_same_for_siblings_and_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = open_directory(""), open_directory("")
    assert first is not None
    assert second is not None
    assert first.path == second.path
    assert stat.S_IMODE(first.path.stat().st_mode) == stat.S_IMODE(first.path.parent.stat().st_mode) == 0o700
    monkeypatch.setattr("sys.argv", ["another-server"])
    third = open_directory("")
    assert third is not None
    assert third.path != first.path


def test_without_a_directory_each_worker_shows_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no-such"))
    assert open_directory("") is None
    assert "DBWATCH_STATE_DIR" in caplog.text


def test_directories_of_servers_that_are_gone_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = open_directory("")
    assert kept is not None
    gone = kept.path.parent / f"{os.getppid()}-1-0123456789ab"
    gone.mkdir(mode=0o700)
    (gone / "999999-1.json").write_text("{}")
    open_directory("")
    assert not gone.exists()
    assert kept.path.exists()


def test_the_others_are_read_and_the_dead_removed(directory: StateDirectory, other: subprocess.Popen[bytes]) -> None:
    directory.write(state_of(os.getpid()))
    directory.write(state_of(other.pid))
    states, silent = directory.others(os.getpid())
    assert ([state["pid"] for state in states], silent) == ([other.pid], 0)
    end(other)
    assert directory.others(os.getpid()) == ([], 0)
    assert [pid for _, pid in directory.files()] == [os.getpid()]


def test_a_worker_that_has_ended_and_was_not_waited_for_is_dead(
    directory: StateDirectory, other: subprocess.Popen[bytes]
) -> None:
    directory.announce(other.pid)
    os.kill(other.pid, signal.SIGKILL)
    eventually(lambda: not directory.others(os.getpid())[1])
    end(other)


def test_a_number_that_another_process_has_now_is_not_the_worker(directory: StateDirectory) -> None:
    (directory.path / f"{os.getppid()}-1.json").write_text("{}")
    assert directory.others(os.getpid()) == ([], 0)


def test_a_worker_that_has_not_written_is_silent(directory: StateDirectory, other: subprocess.Popen[bytes]) -> None:
    directory.announce(other.pid)
    assert directory.others(os.getpid()) == ([], 1)
    directory.write(state_of(other.pid, at=time.time() - 60))
    states, silent = directory.others(os.getpid())
    assert (len(states), silent) == (1, 1)
    end(other)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 99}', '{"version": 1, "dbwatch": "0.0.0"}', "\xff"])
def test_what_cannot_be_read_is_passed_over(
    directory: StateDirectory, other: subprocess.Popen[bytes], content: str
) -> None:
    directory.announce(other.pid)
    (path,) = (path for path, _ in directory.files())
    path.write_text(content, "latin-1")
    assert directory.others(os.getpid())[0] == []
    end(other)


def test_a_worker_that_starts_removes_what_killed_ones_have_left_and_nothing_else(
    directory: StateDirectory, other: subprocess.Popen[bytes]
) -> None:
    directory.announce(os.getpid())
    directory.announce(other.pid)
    directory.touch()
    (dead,) = directory.path.glob(f"{other.pid}-*.json")
    unfinished = dead.with_suffix(".140234")  # it was writing when it was killed
    unfinished.touch()
    kept = {path.name for path in directory.path.iterdir()}
    directory.clear()
    assert {path.name for path in directory.path.iterdir()} == kept
    end(other)
    directory.clear()
    assert {path.name for path in directory.path.iterdir()} == kept - {dead.name, unfinished.name}


def test_nobody_writes_unless_somebody_looks(directory: StateDirectory) -> None:
    assert not directory.is_watched()
    directory.touch()
    assert directory.is_watched()
    os.utime(directory.path / "watched", (0, time.time() - 60))
    assert not directory.is_watched()


def test_an_ended_worker_takes_its_file_away(directory: StateDirectory) -> None:
    directory.write(state_of(os.getpid()))
    directory.remove(os.getpid())
    assert list(directory.files()) == []
