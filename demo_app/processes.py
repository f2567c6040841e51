"""The programs that the demo consists of, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

_STOP_SECONDS = 10.0
_START_SECONDS = 60.0


class DemoError(Exception):
    """The demo cannot start or go on; the message is one sentence with the way out."""


class Program:
    """A Python module that runs until the end of the ``with`` block.

    It has a session of its own: Ctrl-C reaches the demo alone, which then stops its programs in their order. What it
    prints goes to the terminal, or to the end of the file ``log``.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], *, log: Path | None = None
    ) -> None:
        self.name = module
        with ExitStack() as opened:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=None if log is None else opened.enter_context(log.open("ab")),
                stderr=None if log is None else subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to stop, and kill what is left of it and its own children after ten seconds."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class StopRequest:
    """Ctrl-C, the end of the terminal and SIGTERM, noted instead of raised.

    An exception could come between the start of a program and the note that it must be stopped, or in the middle of the
    stopping; ``pause`` raises KeyboardInterrupt where nothing can be lost.
    """

    def __init__(self) -> None:
        self._noted = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def pause(self) -> None:
        """Sleep a moment. Raises KeyboardInterrupt if the demo is to stop."""
        if not self._noted:
            time.sleep(0.1)
        self.check()

    def check(self) -> None:
        """Raises KeyboardInterrupt if the demo is to stop."""
        if self._noted:
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._noted = True


def wait_until_it_answers(server: Program, url: str, stop: StopRequest) -> None:
    """Return when the server answers at the address. Raises DemoError if it ends before that, or takes a minute."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.exit_status is not None:
            raise DemoError("The app ended while it started; the reason stands above.")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=1):  # noqa: S310
            return
        stop.pause()
    raise DemoError(f"The app did not answer at {url} within {_START_SECONDS:.0f} s.")
