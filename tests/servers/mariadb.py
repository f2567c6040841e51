"""A throwaway MariaDB server."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.servers.ports import free_port
from tests.servers.program import ServerProcess, find_program

_REMEDY = "`apt-get install mariadb-server` (no service needs to run)"


class MariaDB:
    """A throwaway MariaDB server on a free loopback port; the user ``root`` has no password.

    Everything it writes lies in one temporary directory, which ``close`` removes. MariaDB refuses to run as root:
    started by root, it runs as the user ``mysql``, whom the Debian package creates.
    Raises MissingProgramError if MariaDB is not installed.
    """

    def __init__(self) -> None:
        self._server = find_program("mariadbd", _REMEDY)
        self._installer = find_program("mariadb-install-db", _REMEDY)
        self.port = free_port()
        self._directory: Path | None = None
        self._process: ServerProcess | None = None

    def start(self) -> None:
        """Start the server and return when it accepts connections; the first time, create its data as well."""
        directory = self._directory = self._directory or self._create()
        process = self._process = ServerProcess(
            [
                *(self._server, "--no-defaults", f"--datadir={directory / 'data'}", f"--port={self.port}"),
                *("--bind-address=127.0.0.1", f"--socket={directory / 'socket'}", f"--pid-file={directory / 'pid'}"),
                # Commits reach the system but not the disk: they survive a crash of the server, not of the machine.
                *("--innodb-flush-log-at-trx-commit=2", *_account()),
            ],
            log=directory / "log",
        )
        process.wait_until(lambda: _greets(self.port))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server and keep its data; SIGKILL is a crash."""
        if self._process is not None:
            self._process.stop(how)
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server and start it again with the same port and data."""
        self.stop(how)
        self.start()

    def close(self) -> None:
        """Stop the server and remove its directory. Calling it again does nothing."""
        self.stop(signal.SIGKILL)
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def url(self, driver: str = "pymysql", database: str = "test") -> str:
        """The SQLAlchemy URL of a database of this server."""
        return f"mariadb+{driver}://root@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _create(self) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="dbwatch-mariadb-"))
        if os.geteuid() == 0:
            shutil.chown(directory, "mysql", pwd.getpwnam("mysql").pw_gid)
        command: list[str | Path] = [
            *(self._installer, "--no-defaults", f"--datadir={directory / 'data'}"),
            *("--auth-root-authentication-method=normal", "--skip-name-resolve"),
            *_account(),
        ]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            shutil.rmtree(directory)
            raise RuntimeError(f"mariadb-install-db failed:\n{result.stdout}{result.stderr}")
        return directory


def _account() -> list[str]:
    return ["--user=mysql"] if os.geteuid() == 0 else []


def _greets(port: int) -> bool:
    """Whether a connection gets the protocol's greeting: the port is open before the server can serve."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as client:
            return bool(client.recv(1))
    except OSError:
        return False
