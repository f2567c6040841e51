"""The workers of one server see each other through a private directory: each writes its state there for the others.

Only while somebody looks at the page: whoever serves it touches a mark, and all write as long as the mark is fresh. A
file is replaced as a whole, so that a reader never sees half of it, and removed when its process is gone.
"""

import hashlib
import json
import logging
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import get_ident
from typing import Any

from dbwatch.outputs import processes
from dbwatch.outputs.live.document import VERSION, WorkerState
from dbwatch.settings import ConfigurationError
from dbwatch.version import __version__

logger = logging.getLogger("dbwatch")

#: Seconds for which one look at the page keeps the workers writing.
WATCHED_SECONDS = 5.0
_MARK = "watched"
#: The files of workers, also those that are still being written.
_FILE = re.compile(r"(\d+)-(?:\d+|x)\.(?:json|\d+)")


class StateDirectory:
    """The directory, made for this user alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, state: WorkerState) -> None:
        """Replace this process's file."""
        target = self.path / _name(state["pid"])
        unfinished = target.with_suffix(f".{get_ident()}")  # a sampler that is being replaced may write as well
        unfinished.write_text(json.dumps(state, separators=(",", ":"), allow_nan=False))
        unfinished.replace(target)

    def announce(self, pid: int) -> None:
        """Leave an empty file: there is a worker, and it will write once somebody looks."""
        (self.path / _name(pid)).touch()

    def clear(self) -> None:
        """Remove what workers have left that were killed, a file that they had not finished included."""
        for path in list(self.path.iterdir()):
            found = _FILE.fullmatch(path.name)
            if found and not is_alive(int(found[1]), path.with_suffix(".json")):
                path.unlink(missing_ok=True)

    def others(self, pid: int) -> tuple[list[WorkerState], int]:
        """What the other living workers have written, and how many of them have not done so since somebody looks.
        Files of dead ones are removed.
        """
        states: list[WorkerState] = []
        silent = 0
        for path, number in list(self.files()):
            if number == pid:
                continue
            if not is_alive(number, path):
                path.unlink(missing_ok=True)
                continue
            state = _read(path)
            if state is None or time.time() - state["at"] > WATCHED_SECONDS:
                silent += 1
            if state is not None:
                states.append(state)
        return states, silent

    def has_others(self, pid: int) -> bool:
        """True if another process has a file here, dead or alive."""
        return any(number != pid for _, number in self.files())

    def touch(self) -> None:
        """Somebody looks."""
        (self.path / _MARK).touch()

    def is_watched(self) -> bool:
        """True if somebody looked at the page of any worker in the last seconds."""
        try:
            return time.time() - (self.path / _MARK).stat().st_mtime < WATCHED_SECONDS
        except FileNotFoundError:
            return False

    def remove(self, pid: int) -> None:
        """Take this process's file away; called at its end."""
        with suppress(OSError):
            (self.path / _name(pid)).unlink(missing_ok=True)

    def files(self) -> Iterator[tuple[Path, int]]:
        """The workers' files with their process ids."""
        for path in self.path.glob("*.json"):
            number = path.stem.partition("-")[0]
            if number.isdigit():
                yield path, int(number)


def open_directory(chosen: str) -> StateDirectory | None:
    """The directory to share: the chosen one, or one of the user's own in the system's temporary directory, by the
    process that started the workers. None if the latter cannot be had: then each worker shows itself alone.

    Raises:
        ConfigurationError: the chosen directory cannot be used.
    """
    if chosen:
        return StateDirectory(check_directory(chosen))
    path = Path(tempfile.gettempdir()) / f"dbwatch-{_user()}" / _server_key()
    try:
        _private(path.parent)
        _private(path)
        _sweep(path.parent)
    except OSError as error:
        logger.warning(
            "dbwatch: the live page shows only the worker that answers, because no directory could be shared between "
            "them (%s). Set DBWATCH_STATE_DIR to a private directory.",
            error,
        )
        return None
    return StateDirectory(path)


def check_directory(chosen: str) -> Path:
    """The chosen directory, made with mode 0700 if it does not exist.

    Raises:
        ConfigurationError: it cannot be made, belongs to somebody else, or others can look into it.
    """
    path = Path(chosen)
    try:
        _private(path)
    except OSError as error:
        raise ConfigurationError(
            f"dbwatch: state_dir is {chosen!r}, which cannot be used ({error.strerror or error}). It must be a "
            "directory of this user with mode 0700; dbwatch makes it if its parent exists."
        ) from None
    return path


def is_alive(pid: int, path: Path) -> bool:
    """True if the process that owns a file still runs. Its start time is part of the name, because numbers recur."""
    return processes.is_alive(pid) and path.name == _name(pid)


def _name(pid: int) -> str:
    return f"{pid}-{processes.start_of(pid)}.json"


def _server_key() -> str:
    """The same in all workers of one server, and in nothing else: parent process and command."""
    parent = os.getppid()
    command = "\0".join([str(Path.cwd()), *sys.argv])
    return (
        f"{parent}-{processes.start_of(parent)}-{hashlib.sha256(command.encode('utf-8', 'replace')).hexdigest()[:12]}"
    )


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def _private(path: Path) -> None:
    """Make a directory that nobody else can enter, or see that it is one. A link planted by somebody is refused."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is no directory")
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o077):
        raise PermissionError(f"{path} belongs to somebody else or is open to others")


def _sweep(parent: Path) -> None:
    """Remove the directories of servers that are gone: whose parent has ended and of whose workers none lives on."""
    for path in parent.iterdir():
        number, _, rest = path.name.partition("-")
        if not number.isdigit() or rest.partition("-")[0] == processes.start_of(int(number)):
            continue
        if any(is_alive(pid, file) for file, pid in StateDirectory(path).files()):
            continue
        with suppress(OSError):
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def _read(path: Path) -> WorkerState | None:
    """A worker's state; None if it has not written one yet, or runs another version of dbwatch."""
    try:
        read: Any = json.loads(path.read_bytes() or b"null")
    except (OSError, ValueError):
        return None
    if not isinstance(read, dict) or (read.get("version"), read.get("dbwatch")) != (VERSION, __version__):
        return None
    state: WorkerState = read  # type: ignore[assignment]
    return state
