"""Real uvicorn servers: in a process of their own, or in a thread of the test that wants to look inside."""

import asyncio
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self

import uvicorn

from tests.servers.program import ServerProcess
from tests.servers.waiting import eventually

Loop = Literal["asyncio", "uvloop"]

_ADDRESS = re.compile(r"(?:Uvicorn running on|Listening at:) (http://[\d.]+:\d+)")
_STARTED = "Application startup complete."


class ServerOfApp:
    """A server of an ASGI app as a child process on a loopback port, ready when every worker has started the app."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None, workers: int) -> None:
        self.process = ServerProcess(command, log=log, env=env)
        self.process.wait_until(lambda: self.process.output.count(_STARTED) >= workers and self._address())
        self.url = self._address()

    @property
    def address(self) -> str:
        """The server's ``host:port``, as Prometheus wants its targets."""
        return self.url.removeprefix("http://")

    @property
    def output(self) -> str:
        """What the server has printed."""
        return self.process.output

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server and its workers, and return its exit status."""
        return self.process.stop(how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _address(self) -> str:
        found = _ADDRESS.search(self.process.output)
        return found[1] if found else ""


class UvicornProcess(ServerOfApp):
    """``uvicorn APP`` as a child process on a free loopback port.

    ``app`` is an import string such as ``"tests.servers.apps:hello"``, ``env`` is added to the environment. Returns
    when every worker has completed its startup; raises RuntimeError with the server's output if it ends before that.
    """

    def __init__(
        self,
        app: str,
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        workers: int = 1,
        loop: Loop = "asyncio",
        options: tuple[str, ...] = (),
    ) -> None:
        command = [sys.executable, "-m", "uvicorn", app, "--host=127.0.0.1", "--port=0", "--no-access-log"]
        super().__init__([*command, f"--workers={workers}", f"--loop={loop}", *options], log, env, workers)


class GunicornProcess(ServerOfApp):
    """``gunicorn APP`` with uvicorn's workers, as UvicornProcess; with ``preload`` they fork once it is loaded."""

    def __init__(self, app: str, log: Path, *, env: Mapping[str, str], workers: int, preload: bool) -> None:
        command = [sys.executable, "-m", "gunicorn", app, "--bind=127.0.0.1:0", f"--workers={workers}"]
        command += ["--worker-class=uvicorn_worker.UvicornWorker", *(["--preload"] if preload else [])]
        super().__init__(command, log, env, workers)


class _PromptServer(uvicorn.Server):
    """Looks ten times as often whether it is to stop: more than a thousand tests wait for that."""

    async def main_loop(self) -> None:
        ticks = 0
        while not self.should_exit and not (ticks % 10 == 0 and await self.on_tick(ticks // 10)):
            ticks += 1
            await asyncio.sleep(0.01)


@contextmanager
def serve(
    app: Callable[..., Any],
    *,
    loop: Loop = "asyncio",
    lifespan: Literal["auto", "on", "off"] = "auto",
    graceful_seconds: int = 10,
) -> Iterator[str]:
    """Serve an ASGI app from a thread of this process, with an event loop of its own, and yield the server's URL.

    At the end the server is asked to stop: requests still running after ``graceful_seconds`` are cancelled. An async
    engine that the app used belongs to the server's loop, so the app's lifespan must dispose of it.
    Raises RuntimeError if the app's startup fails.
    """
    config = uvicorn.Config(
        app,
        loop=loop,
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=graceful_seconds,
    )
    server = _PromptServer(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(SystemExit):  # So uvicorn ends the process after a failed startup.
                server.run([listener])

        thread = threading.Thread(target=run, name=f"uvicorn-{loop}", daemon=True)
        thread.start()
        eventually(lambda: server.started or not thread.is_alive(), every=0.005)
        if not server.started:
            raise RuntimeError("the app's startup failed; its error is in the log of uvicorn.error")
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(graceful_seconds + 20.0)
            if thread.is_alive():
                raise RuntimeError("uvicorn did not stop")
