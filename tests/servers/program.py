"""Server programs: finding them on the machine, running them as child processes."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.servers.waiting import eventually

#: Where ``.ci/get-prometheus`` puts what it fetches; looked at before PATH.
TOOLS = Path(__file__).parents[2] / ".tools" / "bin"


class MissingProgramError(RuntimeError):
    """A server program is not installed; the message says which one and how to get it."""


def find_program(name: str, remedy: str) -> Path:
    """The path of an installed program. Raises MissingProgramError, which carries the ``remedy``."""
    path = os.pathsep.join([str(TOOLS), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    if found := shutil.which(name, path=path):
        return Path(found)
    raise MissingProgramError(f"{name} is not installed: {remedy}")


class ServerProcess:
    """A server as a child process that leads a session of its own, with its output in a file."""

    def __init__(self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self._log = log
        self._name = Path(command[0]).name
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """Everything the server and its predecessors on this log file have printed."""
        return self._log.read_text("utf-8", "replace")

    def wait_until(self, ready: Callable[[], object], timeout: float = 60.0) -> None:
        """Wait until ``ready`` returns something true.

        Raises RuntimeError with its output if the server ends or ``timeout`` seconds pass before.
        """

        def ready_or_dead() -> object:
            return not self.running or ready()

        try:
            eventually(ready_or_dead, timeout)
        except TimeoutError:
            self.stop(signal.SIGKILL)
            raise RuntimeError(f"{self._name} is not ready after {timeout:g} s:\n{self.output[-2000:]}") from None
        if not self.running:
            raise RuntimeError(f"{self._name} ended with {self._process.returncode}:\n{self.output[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Signal the server, wait for it, and kill what is left of its session. Returns its exit status."""
        if self.running:
            self._process.send_signal(how)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self._name} did not stop after {timeout:g} s:\n{self.output[-2000:]}") from None
        finally:
            self._kill_session()

    def _kill_session(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()
