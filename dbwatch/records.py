"""What dbwatch keeps while it happens: a watched pool, a checkout with its hold, a request, the evidence against it.

Times are ``time.perf_counter()`` readings, durations are seconds, both floats.
"""

from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop  # exported by asyncio.events; get_running_loop() raises, which costs more
from collections.abc import MutableMapping
from itertools import count
from math import inf
from types import CodeType
from typing import Any, Final, Literal
from weakref import ref

Outcome = Literal["ok", "timeout", "error", "cancelled"]
#: Lines of the app's own code, innermost first: (code object, line number). Formatted only when somebody reads them.
Site = tuple[tuple[CodeType, int], ...]

#: Statements by text: when one ran, if it did once; else how often in quick succession, and when it last did. The time
#: of a request's first is not kept.
Runs = dict[str, float | tuple[int, float]]

#: Marks of routes in labels and reports. The parentheses keep them apart from every real path.
UNMATCHED: Final = "(unmatched)"
NO_REQUEST: Final = "(none)"
OTHER: Final = "(other)"
#: The name of a pool that cannot be told.
UNKNOWN: Final = "(unknown)"


def writable(label: str) -> str:
    """A label as it can be written in UTF-8. Half a surrogate pair, as in a file name that is no UTF-8, is escaped: one
    such label would be the end of the whole page of metrics.
    """
    return label if label.isascii() else label.encode("utf-8", "backslashreplace").decode("utf-8")


#: Seconds after which a running request (a stream, a websocket) no longer waits for its end to be counted.
LONG_REQUEST_SECONDS: Final = 10.0

#: The window of the peak gauge is 12 slots of 10 seconds, the slot being filled included.
PEAK_SLOT_SECONDS: Final = 10.0
PEAK_SLOTS: Final = 12

_request_numbers = count(1)


def reserve_request_number() -> int:
    """A number that no request gets: requests begun before this call have smaller ones, those begun after it larger."""
    return next(_request_numbers)


class WatchedPool:
    """One ``sqlalchemy.pool.Pool`` object, what it is called, and what is out of it now.

    An engine that was disposed of has a new pool object and, while a connection is still out, the old one as well;
    both carry the engine's name.
    """

    __slots__ = (
        "attributes",
        "creator",
        "engine",
        "half_timeout",
        "is_async",
        "live",
        "name",
        "open",
        "out_before",
        "peak",
        "peak_numbers",
        "peak_until",
        "peaks",
        "pool",
        "server_allows",
        "server_asked",
        "server_idle_seconds",
        "shared",
        "size",
        "timeout",
        "waiting",
        "__weakref__",
    )

    def __init__(
        self,
        pool: "ref[Any]",
        engine: "ref[Any] | None",
        name: str,
        *,
        size: float,
        timeout: float,
        is_async: bool,
        shared: bool,
    ) -> None:
        self.pool = pool
        #: The engine it belongs to, None for a pool made without one. Disposed of, the engine has another pool.
        self.engine = engine
        self.name = name
        #: Checkouts above this number are overflow; infinite where the pool has no overflow.
        self.size = size
        #: Seconds a checkout may wait, 0 where the pool has no queue.
        self.timeout = timeout
        #: Half of that, infinite where the pool has no queue.
        self.half_timeout = timeout / 2 or inf
        #: True if the engine's driver is asynchronous, so that its waits do not hold up the event loop.
        self.is_async = is_async
        #: True for StaticPool and SingletonThreadPool, where several checkouts share one connection record and only
        #: one of them is checked in: holds are ended by looking at the proxy, and nobody is accused.
        self.shared = shared
        #: Checkouts that are out, in the order in which they were taken (a dict serves as an ordered set).
        self.open: dict[Checkout, None] = {}
        #: Checkouts blocked in the queue, in the order in which they began to wait.
        self.waiting: dict[Checkout, None] = {}
        #: Connections opened and not yet closed, kept by the fold.
        self.live = 0
        #: Connections that were out when the pool was first seen; their return goes unseen.
        self.out_before = 0
        #: Configuration as ``dbwatch_pool_info`` shows it.
        self.attributes: dict[str, str] = {}
        #: Connections that the server has for everybody, None as long as it was not asked or has not said.
        self.server_allows: int | None = None
        #: Seconds after which the server closes an idle connection, 0 for never; None as above.
        self.server_idle_seconds: int | None = None
        self.server_asked = False
        #: Number of the request that made the engine, while nobody else has used or disposed of it; else 0.
        self.creator = 0
        self.forget_peaks()

    def forget_peaks(self) -> None:
        """Start anew."""
        self.peaks = [0] * PEAK_SLOTS
        self.peak_numbers = [-1] * PEAK_SLOTS
        #: The most so far in the slot being filled, and when that slot ends.
        self.peak = 0
        self.peak_until = 0.0

    def note_used(self, used: int, now: float) -> None:
        """Remember how many connections were out at ``now``. To be called when they are more than ``peak``, and with
        the first checkout or return after ``peak_until``.
        """
        number = int(now // PEAK_SLOT_SECONDS)
        slot = number % PEAK_SLOTS
        if self.peak_numbers[slot] != number:
            self.peak_numbers[slot] = number
            self.peaks[slot] = 0
            self.peak_until = (number + 1) * PEAK_SLOT_SECONDS
        self.peak = self.peaks[slot] = max(self.peaks[slot], used)

    def used_peak(self, now: float) -> int:
        """Most connections out at once in the last two minutes."""
        oldest = int(now // PEAK_SLOT_SECONDS) - PEAK_SLOTS
        recent = [peak for peak, number in zip(self.peaks, self.peak_numbers, strict=True) if number > oldest]
        return max([len(self.open), *recent])


class Checkout:
    """One attempt to take a connection and, if it succeeded, the hold that followed.

    It is made when ``Pool.connect`` is entered, so that the wait, the connect and the ping find it; it lies in the
    connection record's ``info`` while the connection is out, where the truth about the hold is from then on.
    """

    __slots__ = (
        "also_running",
        "asked_at",
        "blocked",
        "changes",
        "connect",
        "connect_started",
        "connected",
        "connection_id",
        "executing",
        "idling",
        "interrupted",
        "last_statement",
        "leaked",
        "made_at",
        "on_loop",
        "outcome",
        "overflow",
        "owner",
        "ping",
        "pool",
        "proxy",
        "reclaimed",
        "request",
        "returned_at",
        "running_since",
        "running_what",
        "session",
        "site",
        "slow",
        "spawner",
        "starved",
        "statements",
        "streaming",
        "taken_at",
        "user",
        "wait",
        "wait_started",
    )

    def __init__(self, pool: WatchedPool, request: "Request | None", asked_at: float) -> None:
        self.pool = pool
        self.request = request
        #: The request whose task asks for itself after the request has ended.
        self.spawner: Request | None = None
        self.asked_at = asked_at
        self.outcome: Outcome | None = None
        #: True if it was served, and late: past the threshold of the option, or half of the pool's timeout.
        self.slow = False
        # Phases: None until they happen.
        self.wait_started: float | None = None
        self.wait: float | None = None
        self.connect_started: float | None = None
        self.connect: float | None = None
        self.ping: float | None = None
        self.connected = 0
        # The hold. For a checkout that gave up, ``taken_at`` is the moment of giving up.
        self.taken_at: float | None = None
        self.returned_at: float | None = None
        self.proxy: ref[Any] | None = None
        self.connection_id = 0
        self.owner: ref[Any] | None = None
        self.site: Site = ()
        self.overflow = False
        self.leaked = False
        self.reclaimed = False
        #: True if its request gave up waiting for another connection of the pool meanwhile.
        self.starved = False
        # What ran during the hold.
        self.statements = 0
        self.executing = 0.0
        #: The cursor or connection of what runs, None while nothing does. By it a dialect's override is told from what
        #: it overrides.
        self.running_what: object = None
        self.running_since = 0.0
        #: How many more run at once, in tasks that share a session.
        self.also_running = 0
        self.streaming = False
        self.on_loop = False
        self.blocked = 0.0
        self.last_statement = ""
        #: What was seen of a hold in which nothing ran, None if no look met it.
        self.idling: Idling | None = None
        #: True once a statement was cancelled: what the driver does after that is not known.
        self.interrupted = False
        #: What its transactions changed, None until a statement writes.
        self.changes: Changes | None = None
        #: The last request that used a connection nobody's request took.
        self.user: ref[Request] | None = None
        #: Identity of the ORM session that began a transaction here, 0 for Core.
        self.session = 0
        #: The line at which that session was made, empty if it is not known.
        self.made_at: Site = ()

    def is_open(self) -> bool:
        """True while the connection is out. Uses nothing but the proxy's public state, so it holds for every pool."""
        if self.returned_at is not None or self.proxy is None:
            return False
        proxy = self.proxy()
        return proxy is not None and proxy.is_valid and not proxy.is_detached

    @property
    def running(self) -> bool:
        """True while a statement, COMMIT or ROLLBACK runs."""
        return self.running_what is not None

    def checkout_seconds(self, now: float) -> float:
        """Seconds from asking to having the connection, or to ``now`` (the moment of giving up) if it was never had."""
        return (now if self.taken_at is None else self.taken_at) - self.asked_at

    def hold_seconds(self, now: float) -> float:
        """Seconds from having the connection to giving it back, or to ``now`` if it is still out."""
        if self.taken_at is None:
            return 0.0
        return (now if self.returned_at is None else self.returned_at) - self.taken_at

    def outlived(self, request: "Request") -> bool:
        """True if the hold ended after the request."""
        if request.ended_at is None or self.returned_at is None:
            return False
        return self.returned_at > request.ended_at

    def executing_seconds(self, now: float) -> float:
        """Seconds of the hold in which a statement, COMMIT or ROLLBACK ran, a running one up to ``now``."""
        return self.executing + (0.0 if self.running_what is None else now - self.running_since)


class Changes:
    """What the transactions of a hold have changed and not committed. Most holds only read, and have none."""

    __slots__ = ("autocommit", "lost", "rolled_back", "savepoints", "site", "writes")

    def __init__(self) -> None:
        #: Statements that changed rows since the transaction began, and where the first of them stands.
        self.writes = 0
        self.site: Site = ()
        #: How many there were at each savepoint.
        self.savepoints: dict[str, int] = {}
        #: How many a ROLLBACK undid that may turn out to be nobody's wish.
        self.rolled_back = 0
        #: How many were lost for want of a commit.
        self.lost = 0
        #: True if the driver commits by itself; None until a write asked.
        self.autocommit: bool | None = None

    def begin_anew(self) -> None:
        """A transaction has ended."""
        self.writes = 0
        self.savepoints.clear()
        self.autocommit = None  # only now may the app switch it on or off


class Idling:
    """What was seen of a hold while nothing ran in it. Times in seconds."""

    __slots__ = ("excused", "gaps", "reported", "seen", "since", "site")

    def __init__(self) -> None:
        #: Since when nothing ran, at the last look, by which the next one knows that nothing ran meanwhile.
        self.since = -1.0
        #: Idle by the holder's own doing, as far as two looks in a row have seen it.
        self.seen = 0.0
        #: Stretches in which nothing ran. Of each, what was before its first look and after its last is unseen.
        self.gaps = 0
        #: Idle because the holder did not get its turn, in the whole hold.
        self.excused = 0.0
        #: The lines at which the holder was.
        self.site: Site = ()
        #: True once it was reported.
        self.reported = False


class Request:
    """One HTTP request or websocket connection, and what its checkouts add up to.

    The totals are kept by the fold, which is the only writer; ``open`` is kept at checkout and return.
    """

    __slots__ = (
        "app",
        "attempt",
        "blocked",
        "blocked_at",
        "checkout_seconds",
        "checkouts",
        "ended_at",
        "events",
        "evidence",
        "executing",
        "failed",
        "gave_back_at",
        "held_at_end",
        "hold_seconds",
        "loop",
        "method",
        "notable",
        "number",
        "open",
        "path",
        "posted",
        "ran",
        "reported",
        "response_started_at",
        "root_path",
        "route",
        "scope",
        "span",
        "started_at",
        "statements",
        "status",
        "thread",
        "tried",
        "wait",
        "waiting",
        "writes",
        "__weakref__",
    )

    def __init__(self, scope: MutableMapping[str, Any], method: str, app: Any, thread: int, started_at: float) -> None:
        self.number = next(_request_numbers)
        self.method = method
        #: The template of the route, empty until it is known.
        self.route = ""
        # The scope is dropped at the end of the request: a spawned task pins this object through its context.
        self.scope: MutableMapping[str, Any] | None = scope
        self.app = app
        self.path: str = scope.get("path", "")
        self.root_path: str = scope.get("root_path", "")
        self.thread = thread
        #: The event loop that runs it, dropped at its end.
        self.loop: AbstractEventLoop | None = _get_running_loop()
        self.started_at = started_at
        self.ended_at: float | None = None
        self.response_started_at: float | None = None
        self.status: int | None = None
        #: What the OpenTelemetry output keeps of the span that was being recorded when the request began.
        self.span: Any = None
        self.failed = False
        # A list, and not a dict as a pool's: they are few.
        self.open: list[Checkout] = []
        #: Checkouts of this request that are blocked in a pool's queue now.
        self.waiting: dict[Checkout, None] | None = None
        #: The last checkout it began, under way as long as that has no outcome. Dropped at its end, for it refers back.
        self.attempt: Checkout | None = None
        # Set where a checkout begins: tells at the end whether the request touched a pool at all.
        self.tried = False
        # True once the totals are in the route's series; what comes later is added there directly.
        self.posted = False
        # True once the end of the request has been posted as a fact.
        self.reported = False
        self.checkouts = 0
        self.checkout_seconds = 0.0
        self.hold_seconds = 0.0
        #: Seconds that holds still open at the end of the request had lasted by then.
        self.held_at_end = 0.0
        self.wait = 0.0
        self.executing = 0.0
        self.statements = 0
        self.blocked = 0.0
        #: (pool name, event) of what went wrong, until the route is known.
        self.events: list[tuple[str, str]] = []
        #: What the hooks have proven against this request, by finding and code line; judged at its end.
        self.evidence: dict[tuple[str, Site], Evidence] | None = None
        #: True if something is to be told at the end of the request and not with the next batch.
        self.notable = False
        #: Where the event loop was first blocked: pool and lines.
        self.blocked_at: tuple[str, Site] | None = None
        #: When it last gave a connection back.
        self.gave_back_at = 0.0
        #: The only statement it ran, empty before; from the second on a table of them, which most requests never need.
        #: None once the response has started: the same SELECT again after that is a stream that polls, or other work.
        self.ran: str | Runs | None = ""
        #: Statements so far that may have changed rows.
        self.writes = 0


class Evidence:
    """One proven mistake of a request, how often it was seen, and the numbers that go with it."""

    __slots__ = ("before", "count", "detail", "numbers", "pool", "site")

    def __init__(self, pool: str, site: Site, detail: str, numbers: dict[str, float]) -> None:
        self.pool = pool
        self.site = site
        #: The specific part of the message.
        self.detail = detail
        self.numbers = numbers
        self.count = 1
        #: How many writes of the request came before it, if any after it refutes it.
        self.before: int | None = None
