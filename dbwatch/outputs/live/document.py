"""The shapes of the documents: what each worker writes for the others, and what the page and its readers get.

Plain JSON objects. Times are seconds; moments are seconds since the epoch; what is unlimited is null.
"""

from typing import Literal, NotRequired, TypedDict

#: Version of the public state. Raised when a field changes its meaning or goes; new fields do not raise it.
VERSION = 1

Level = Literal["ok", "warning", "critical"]


class Verdict(TypedDict):
    """How a pool is, in a sentence."""

    level: Level
    text: str


class HolderRow(TypedDict):
    """One connection that is out."""

    worker: int
    method: str
    route: str
    age_seconds: float
    state: Literal["executing", "idle", "leaked"]
    executing_seconds: float
    statements: int
    overflow: bool
    lines: list[str]
    #: The line at which a holder that has idled for long is now, empty if that cannot be told.
    now_at: str
    #: The line that made the session of a leak, empty if there is none.
    made_at: str
    last_statement: str


class WaiterRow(TypedDict):
    """One checkout that waits in the pool's queue."""

    worker: int
    method: str
    route: str
    waited_seconds: float


class Samples(TypedDict):
    """Columns of samples taken once a second, oldest first."""

    at: list[int]
    used: list[int]
    idle: list[int]
    overflow: list[int]
    waiters: list[int]
    leaked: list[int]
    size: list[int]
    limit: list[int | None]


class Slots(TypedDict):
    """Checkout times by slots of ten seconds, oldest first: the end of each slot, and its observations by bucket."""

    at: list[int]
    buckets: list[list[int]]
    timeouts: list[int]


class Totals(TypedDict):
    """What a pool has done in the window."""

    checkout_buckets: list[int]
    checkout_seconds: float
    outcomes: dict[str, int]
    phases: dict[str, float]
    hold_buckets: list[int]
    hold_seconds: float
    activity: dict[str, float]


class Remark(TypedDict):
    """What to know about one setting of an engine."""

    name: str
    setting: str
    level: Literal["ok", "warning"]
    text: str


class Gauges(TypedDict):
    """A pool now."""

    used: int
    idle: int
    size: int
    limit: int | None
    overflow: int
    waiters: int
    leaked: int
    used_peak: int
    oldest_waiter_seconds: float
    oldest_checkout_seconds: float
    timeout_seconds: float | None


class WorkerPool(TypedDict):
    """A pool in one worker."""

    name: str
    now: Gauges
    verdict: Verdict
    needed_p99: int | None
    needed_peak: int
    idle_share: float
    samples_counted: int
    totals: Totals
    slots: Slots
    samples: Samples
    attributes: dict[str, str]
    server_allows: int | None
    server_idle_seconds: int | None
    holders: list[HolderRow]
    waiting: list[WaiterRow]


class RouteRow(TypedDict):
    """A route in the window."""

    method: str
    route: str
    requests: int
    connection_seconds: float
    wait_seconds: float
    executing_seconds: float
    statements: int
    connections: int
    findings: int


class FindingGroup(TypedDict):
    """Findings of one kind at one code line."""

    finding: str
    pool: str
    method: str
    route: str
    lines: list[str]
    count: int
    first_at: float
    last_at: float
    message: str
    returned: int
    workers: list[int]
    title: NotRequired[str]
    cause: NotRequired[str]
    fix: NotRequired[str]
    page: NotRequired[str]


class WorkerState(TypedDict):
    """What one worker says of itself."""

    version: int
    dbwatch: str
    pid: int
    started_at: float
    at: float
    window_seconds: float
    threads: int
    processes: int
    pools: list[WorkerPool]
    routes: list[RouteRow]
    findings: list[FindingGroup]


class Worker(TypedDict):
    """A worker as the state lists it. ``late`` is true if it lives but has not reported for some seconds."""

    pid: int
    started_at: float
    at: float
    late: bool


class Share(TypedDict):
    """One worker's part of a pool."""

    pid: int
    used: int
    idle: int
    size: int
    limit: int | None
    waiters: int
    verdict: Verdict


class Times(TypedDict):
    """A distribution of times in the window, in seconds; the quantiles are null if nothing was observed."""

    count: int
    per_second: float
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class Advice(TypedDict):
    """Connections needed against configured, for the pool of one worker, with the arithmetic in words."""

    action: Literal["keep", "raise", "lower", "wait"]
    text: str
    arithmetic: str
    mean_needed: float
    p99_needed: int | None
    peak_needed: int
    size: int | None
    limit: int | None


class CheckoutHistory(TypedDict):
    """Checkout time over the window, a point every ten seconds; null where nothing was checked out."""

    at: list[int]
    p50: list[float | None]
    p95: list[float | None]
    p99: list[float | None]


class Pool(TypedDict):
    """A pool in all workers together."""

    name: str
    now: Gauges
    verdict: Verdict
    workers: list[Share]
    checkout: Times
    outcomes: dict[str, int]
    phases: dict[str, float]
    hold: Times
    activity: dict[str, float]
    advice: Advice
    attributes: dict[str, str]
    remarks: list[Remark]
    holders: list[HolderRow]
    waiting: list[WaiterRow]
    history: Samples
    checkout_history: CheckoutHistory


class State(TypedDict):
    """The public state, ``api/state``."""

    version: int
    dbwatch: str
    at: float
    window_seconds: float
    verdict: Verdict
    workers: list[Worker]
    pools: list[Pool]
    routes: list[RouteRow]
    findings: list[FindingGroup]
