"""What can go wrong between an app and its database, each as something that is done to a stage.

A fault says which of the counters about failures move in engines with pre-ping and without; the others must not.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tests.reliability.stage import Stage, engines
from tests.reliability.victims import How, gate_closed
from tests.servers.waiting import eventually

SERVERS = ("postgres", "mariadb")

CONNECT = "dbwatch_connect_errors_total"
TIMEOUT = "dbwatch_checkout_timeouts_total"
PING = "dbwatch_pre_ping_failures_total"
INVALIDATED = "dbwatch_connections_closed_total"
COUNTERS = frozenset((CONNECT, TIMEOUT, PING, INVALIDATED))
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fault:
    """A fault on a kind of server, and the counters that it moves."""

    name: str
    kind: str
    inject: Callable[[Stage, str], None]
    bare_moves: frozenset[str]
    ping_moves: frozenset[str]

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"

    def moves(self, engine: str) -> frozenset[str]:
        """The counters of failures that move for an engine."""
        return self.ping_moves if engine.endswith("-ping") else self.bare_moves


def _ask_all(stage: Stage, kind: str) -> None:
    for page in ("read", "caught", "session", "write"):
        stage.ask(engines(kind), page)


def _refused(stage: Stage, kind: str) -> None:
    for proxy in stage.proxies(kind):
        proxy.refuse()
        proxy.reset()
    _ask_all(stage, kind)


def _stopped(stage: Stage, kind: str) -> None:
    stage.victims[kind].stop("immediate")
    stage.wait_until_closed(kind)
    # Nobody listens where a server is down; the proxy would accept, and reset too late for always the same error.
    for proxy in stage.proxies(kind):
        proxy.refuse()
    _ask_all(stage, kind)
    stage.victims[kind].start()


def _restarted(stage: Stage, kind: str, *, how: How) -> None:
    stage.victims[kind].restart(how)
    stage.wait_until_closed(kind)
    _ask_all(stage, kind)


def _reset(stage: Stage, kind: str) -> None:
    for proxy in stage.proxies(kind):
        proxy.reset()
    _ask_all(stage, kind)


def _ended(stage: Stage, kind: str) -> None:
    victim = stage.victims[kind]
    for session in victim.sessions():
        victim.end(session)
    stage.wait_until_closed(kind)
    _ask_all(stage, kind)


@contextmanager
def _in_mid_statement(stage: Stage, kind: str) -> Iterator[None]:
    """Every engine has a statement under way that does not come to its end by itself."""
    victim = stage.victims[kind]
    with gate_closed(victim):
        asked = stage.asking(engines(kind), "blocked")
        eventually(lambda: victim.blocked() == 2 * len(asked))
        yield
        stage.answers(asked)


def _reset_in_mid_statement(stage: Stage, kind: str) -> None:
    with _in_mid_statement(stage, kind):
        for proxy in stage.proxies(kind):
            proxy.reset()
    eventually(lambda: not stage.victims[kind].blocked())


def _killed_in_mid_statement(stage: Stage, kind: str) -> None:
    with _in_mid_statement(stage, kind):
        stage.victims[kind].stop("kill")
    stage.wait_until_closed(kind)
    stage.victims[kind].start()
    _ask_all(stage, kind)


def _cancelled(stage: Stage, kind: str) -> None:
    victim = stage.victims[kind]
    with _in_mid_statement(stage, kind):
        for session in victim.sessions():
            victim.cancel(session)


def _answer_cut(stage: Stage, kind: str) -> None:
    for engine in engines(kind):
        for proxy in stage.proxies(kind):
            proxy.cut_next_response()
        stage.ask([engine], "read")


def _hung(stage: Stage, kind: str) -> None:
    """The network drops every packet: the connections that are asked for hang, and then nobody gets any."""
    names = engines(kind)
    with _in_mid_statement(stage, kind):
        for proxy in stage.proxies(kind):
            proxy.stall()
        more = stage.asking(names, "read", at_once=2)
        eventually(lambda: all(app.state()["engines"][name]["out"] == 3 for app in stage.apps for name in names))
        stage.ask(names, "read")
        stage.ask(names, "caught")
        for proxy in stage.proxies(kind):
            proxy.reset()
            proxy.restore()
        stage.answers(more)


def _impaired(stage: Stage, kind: str, *, latency: float = 0.0, bytes_per_second: float = math.inf) -> None:
    for proxy in stage.proxies(kind):
        proxy.latency, proxy.bytes_per_second = latency, bytes_per_second
    _ask_all(stage, kind)


def _too_many_clients(stage: Stage, kind: str) -> None:
    for proxy in stage.proxies(kind):
        proxy.reset()
    victim = stage.victims[kind]
    eventually(lambda: len(victim.sessions()) <= 5)  # PgBouncer may keep some
    with victim.full():
        _ask_all(stage, kind)


def _disk_full(stage: Stage, kind: str) -> None:
    stage.ask(engines(kind), "full", at_once=3)


def _bouncer_restarted(stage: Stage, kind: str) -> None:
    stage.bouncer.restart()
    _ask_all(stage, kind)


def _unknown_host(stage: Stage, kind: str) -> None:
    _ask_all(stage, kind)


#: With pre-ping the first connection that fails its ping condemns all that are as old; they are closed as invalidated.
_STALE = (frozenset({INVALIDATED}), frozenset({PING, INVALIDATED}))
_UNREACHABLE = (frozenset({INVALIDATED, CONNECT}), frozenset({PING, INVALIDATED, CONNECT}))
#: A statement that fails so condemns the others before any of them is pinged.
_CAUGHT_OUT = (frozenset({INVALIDATED}), frozenset({INVALIDATED}))
#: Connections that were being opened hung as well.
_HUNG = (frozenset({TIMEOUT, CONNECT, INVALIDATED}), COUNTERS)

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(name, kind, inject, *moves)
        for kind in SERVERS
        for name, inject, moves in (
            ("connections refused", _refused, _UNREACHABLE),
            ("server down", _stopped, _UNREACHABLE),
            ("server restarted, shutdown in order", partial(_restarted, how="fast"), _STALE),
            ("server restarted after a crash", partial(_restarted, how="immediate"), _STALE),
            ("server killed (SIGKILL) and restarted", partial(_restarted, how="kill"), _STALE),
            ("server killed in mid-statement", _killed_in_mid_statement, _CAUGHT_OUT),
            ("every session ended by the administrator", _ended, _STALE),
            ("statement cancelled by the administrator", _cancelled, (NONE, NONE)),
            ("idle connections reset", _reset, _STALE),
            ("connection reset in mid-statement", _reset_in_mid_statement, _CAUGHT_OUT),
            ("answer cut off", _answer_cut, _STALE),
            ("network hangs, pool runs dry", _hung, _HUNG),
            ("delay of 20 ms each way", partial(_impaired, latency=0.02), (NONE, NONE)),
            ("4 kB/s", partial(_impaired, bytes_per_second=4000.0), (NONE, NONE)),
            ("too many clients", _too_many_clients, _UNREACHABLE),
            ("disk full", _disk_full, (NONE, NONE)),
        )
    ),
    Fault("restarted", "bouncer", _bouncer_restarted, *_STALE),
    Fault("host name not found", "lost", _unknown_host, frozenset({CONNECT}), frozenset({CONNECT})),
)
