"""A TCP proxy that delays, stalls, refuses, resets and cuts the connections that pass through it."""

import asyncio
import contextlib
import math
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Self

from tests.servers.ports import free_port

_CALL_TIMEOUT_SECONDS = 10.0
#: SO_LINGER switched on with no time to linger: closing the socket sends a reset.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TCPProxy:
    """Forwards ``port`` to a server on loopback, from an event loop in a thread of its own.

    ``latency`` is the delay in seconds of everything that is forwarded, in each direction, and ``bytes_per_second`` how
    fast each connection carries data in each direction; both may be set at any time.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.latency = 0.0
        self.bytes_per_second: float = math.inf
        #: How many connections clients have made so far.
        self.accepted = 0
        self._target_port = target_port
        self._cut_response = False
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        #: Bound and not listening: keeps the port from everybody else while connections are refused.
        self._kept: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def connections(self) -> int:
        """How many connections pass through the proxy now."""
        return len(self._links)

    def stall(self) -> None:
        """Forward nothing any more, like a network that drops every packet; connections are still accepted."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        self._call(self._stop_listening())

    def reset(self) -> None:
        """Reset all connections, as if the server's machine had restarted. New ones are accepted."""
        self._call(self._reset())

    def cut_next_response(self) -> None:
        """Let the next request through to the server, and reset its connection instead of forwarding the answer."""
        self._cut_response = True

    def restore(self) -> None:
        """Forward everything without delay, as at first."""
        self.latency = 0.0
        self.bytes_per_second = math.inf
        self._cut_response = False
        self._loop.call_soon_threadsafe(self._flowing.set)
        self._call(self._listen())

    def close(self) -> None:
        """Reset what passes through, and stop. Calling it again does nothing."""
        if self._loop.is_closed():
            return
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_TIMEOUT_SECONDS)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_TIMEOUT_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._give_up_port()
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._kept = socket.socket()
            self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._kept.bind(("127.0.0.1", self.port))

    def _give_up_port(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _reset(self) -> None:
        for link in list(self._links):
            self._break(link)

    async def _close(self) -> None:
        await self._stop_listening()
        self._give_up_port()
        await self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # Aborted transports close their sockets in the next round of the loop.

    async def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:  # The server behind is down: its own refusal would have been a reset here.
            _abort(to_client)
            return
        link = (to_client, to_server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(from_client, to_server, link, is_response=False))
                group.create_task(self._forward(from_server, to_client, link, is_response=True))
        finally:
            self._links.discard(link)

    async def _forward(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        link: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        is_response: bool,
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if self.latency:
                    await asyncio.sleep(self.latency)
                if self.bytes_per_second < math.inf:
                    await asyncio.sleep(len(data) / self.bytes_per_second)
                await self._flowing.wait()
                if is_response and self._cut_response:
                    self._cut_response = False
                    self._break(link)
                    return
                sink.write(data)
                await sink.drain()
        for writer in link:
            writer.close()

    def _break(self, link: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self._links.discard(link)
        for writer in link:
            _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # It may be closed already.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
