"""The facts that dbwatch hands out: findings, snapshots and advice, each as of one moment. Nothing changes them later.

Durations are seconds, as floats.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One proven fact.

    Attributes:
        finding: its name in the catalogue.
        at: when, in seconds since the epoch.
        pool: name of the pool.
        method: HTTP method, ``WS`` for websockets, ``(none)`` outside a request.
        route: template of the route.
        request: number of the request in this process, 0 outside a request.
        lines: lines of the app's own code, innermost first, each ``file:line function``.
        message: what happened here, in a sentence with its numbers.
        numbers: the numbers of the message by name, seconds where the name says so.
    """

    finding: str
    at: float
    pool: str
    method: str
    route: str
    request: int
    lines: tuple[str, ...]
    message: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """What a request has done with the pools so far: counts, and seconds. Open holds are included up to now."""

    method: str
    route: str
    age_seconds: float
    checkouts: int
    statements: int
    checkout_seconds: float
    wait_seconds: float
    hold_seconds: float
    executing_seconds: float
    open_connections: int


@dataclass(frozen=True, slots=True)
class Holder:
    """One connection that is out: who has it, for how long, and what it is doing.

    Attributes:
        lines: lines of the app's own code that took the connection, innermost first.
        now_at: the line at which a holder that has idled for long is now, empty if that cannot be told.
        made_at: the line that made the session of a leak, empty if there is none.
        wants: what its request waits or waited for besides, empty if nothing is known of it.
    """

    method: str
    route: str
    age_seconds: float
    executing: bool
    executing_seconds: float
    statements: int
    leaked: bool
    overflow: bool
    lines: tuple[str, ...] = ()
    last_statement: str = ""
    now_at: str = ""
    made_at: str = ""
    wants: str = ""


@dataclass(frozen=True, slots=True)
class Waiter:
    """One checkout that waits in the pool's queue: whose it is, and for how long it has waited."""

    method: str
    route: str
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A pool at one moment, all pool objects of the engine's name taken together.

    ``size``, ``limit`` and ``idle`` come from the engine's current pool; ``used`` also counts connections that are
    still out of a pool the engine has since disposed of. ``limit`` and ``timeout_seconds`` may be infinite;
    ``server_allows`` is the number of connections that the server has for everybody, ``server_idle_seconds`` the time
    after which it closes an idle one, 0 for never; both None if it was not asked.
    """

    name: str
    used: int
    idle: int
    size: int
    limit: float
    overflow: int
    waiters: int
    leaked: int
    used_peak: int
    oldest_waiter_seconds: float
    oldest_checkout_seconds: float
    timeout_seconds: float
    attributes: dict[str, str] = field(default_factory=dict)
    holders: tuple[Holder, ...] = ()
    server_allows: int | None = None
    server_idle_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """What to know about one setting of an engine.

    Attributes:
        name: its name, by which it is silenced.
        setting: the parameter of ``create_engine`` it is about.
        level: ``warning`` if the setting will hurt later, ``ok`` if it is good to know.
        text: what the setting will do under load or at a restart, with its numbers.
    """

    name: str
    setting: str
    level: Literal["ok", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class PoolAdvice:
    """What to change about a pool, from what this process has observed.

    Attributes:
        pool: name of the pool.
        action: ``raise``, ``lower``, ``keep``, or ``wait`` as long as there is not enough to go by.
        text: the advice on its size, in a sentence.
        arithmetic: the numbers it comes from.
        size: the advised ``pool_size``, None without advice.
        limit: the advised ``pool_size + max_overflow``, None without advice.
        remarks: on the engine's other settings, those that will hurt first.
    """

    pool: str
    action: Literal["keep", "raise", "lower", "wait"]
    text: str
    arithmetic: str
    size: int | None
    limit: int | None
    remarks: tuple[Remark, ...]
