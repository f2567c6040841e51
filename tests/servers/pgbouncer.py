"""A throwaway PgBouncer in front of a PostgreSQL, in transaction mode."""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Self

from tests.servers.ports import free_port
from tests.servers.program import ServerProcess, find_program

_REMEDY = "`apt-get install pgbouncer` (no service needs to run)"


class PgBouncer:
    """PgBouncer on a free loopback port: each transaction gets any connection of PostgreSQL's.

    It refuses to run as root: started by root, it runs as the user ``nobody``.
    Raises MissingProgramError if PgBouncer is not installed.
    """

    def __init__(self, postgres_port: int) -> None:
        program = find_program("pgbouncer", _REMEDY)
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="dbwatch-pgbouncer-"))
        self._directory.chmod(0o755)
        configuration = self._directory / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres_port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 5\n"
            "ignore_startup_parameters = extra_float_digits\n"
        )
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._command: list[str | Path] = [program, *account, configuration]
        self._start()

    def url(self, driver: str = "psycopg", database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database behind it."""
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/{database}"

    def restart(self) -> None:
        """Stop it, and with it all connections that pass through it, and start it again on the same port."""
        self._process.stop()
        self._start()

    def close(self) -> None:
        """Stop it and remove its directory."""
        self._process.stop()
        shutil.rmtree(self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._process = ServerProcess(self._command, log=self._directory / "log")
        self._process.wait_until(self._listens)

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0):
                return True
        except OSError:
            return False
