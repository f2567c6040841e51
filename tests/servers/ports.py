"""Free loopback ports for servers that are told their port and may be restarted on it."""

import random
import socket

#: Below the range from which the system takes the ports of outgoing connections, so that no client's own connection
#: can occupy the port while its server is down.
_PORTS = range(20000, 32000)


def free_port() -> int:
    """A loopback port on which nothing listens now."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free loopback port between {_PORTS.start} and {_PORTS.stop}")
