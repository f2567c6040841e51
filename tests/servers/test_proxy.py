import math
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.proxy import TCPProxy
from tests.servers.waiting import eventually


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(1024):
                self.server.heard.append(data)  # type: ignore[attr-defined]
                self.request.sendall(data.upper())
        except ConnectionError:
            return


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.heard: list[bytes] = []


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[TCPProxy]:
    with TCPProxy(echo.server_address[1]) as proxy:
        yield proxy


def connect(proxy: TCPProxy, timeout: float = 10.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout)


def ask(client: socket.socket, question: bytes = b"hello") -> bytes:
    client.sendall(question)
    return client.recv(1024)


def test_what_goes_in_comes_out_both_ways(proxy: TCPProxy) -> None:
    with connect(proxy) as first, connect(proxy) as second:
        assert ask(first) == b"HELLO"
        assert ask(second, b"you too") == b"YOU TOO"
        assert proxy.accepted == proxy.connections == 2
    eventually(lambda: proxy.connections == 0)


def test_latency_delays_each_direction(proxy: TCPProxy) -> None:
    proxy.latency = 0.1
    with connect(proxy) as client:
        start = time.monotonic()
        assert ask(client) == b"HELLO"
        assert time.monotonic() - start >= 0.2


def test_a_narrow_connection_carries_its_bytes_one_after_the_other(proxy: TCPProxy) -> None:
    proxy.bytes_per_second = 50.0
    with connect(proxy) as client:
        start = time.monotonic()
        assert ask(client, b"hello") == b"HELLO"
        assert time.monotonic() - start >= 0.2
        proxy.restore()
        assert proxy.bytes_per_second == math.inf


def test_a_stall_accepts_but_forwards_nothing_until_restored(proxy: TCPProxy, echo: EchoServer) -> None:
    proxy.stall()
    with connect(proxy, timeout=0.3) as client:
        with pytest.raises(TimeoutError):
            ask(client)
        assert echo.heard == []
        proxy.restore()
        client.settimeout(10.0)
        assert client.recv(1024) == b"HELLO"


def test_refusing_concerns_new_connections_only(proxy: TCPProxy) -> None:
    with connect(proxy) as client:
        assert ask(client) == b"HELLO"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert ask(client) == b"HELLO"
    proxy.restore()
    with connect(proxy) as client:
        assert ask(client) == b"HELLO"


def test_nobody_else_gets_the_port_while_connections_are_refused(proxy: TCPProxy) -> None:
    proxy.refuse()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", proxy.port))
    proxy.restore()
    with connect(proxy) as client:
        assert ask(client) == b"HELLO"


def test_a_reset_breaks_what_is_open_and_lets_new_connections_in(proxy: TCPProxy) -> None:
    with connect(proxy) as client:
        assert ask(client) == b"HELLO"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1024)
    with connect(proxy) as client:
        assert ask(client) == b"HELLO"


def test_a_cut_lets_the_request_through_and_loses_one_answer(proxy: TCPProxy, echo: EchoServer) -> None:
    with connect(proxy) as client:
        proxy.cut_next_response()
        with pytest.raises(ConnectionResetError):
            ask(client, b"insert")
    assert echo.heard == [b"insert"]
    with connect(proxy) as client:
        assert ask(client) == b"HELLO"


def test_a_server_that_is_down_shows_as_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with TCPProxy(port) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1024)


def test_closing_twice_is_harmless_and_ends_the_thread(echo: EchoServer) -> None:
    proxy = TCPProxy(echo.server_address[1])
    with connect(proxy) as client:
        assert ask(client) == b"HELLO"
        proxy.close()
        proxy.close()
        assert "tcp-proxy" not in {thread.name for thread in threading.enumerate()}
