"""The checkout timeout report: what nobody else can say when the pool is empty. Who holds every connection, doing
what, since when; what that means; and what to do about it, in order.
"""

from collections import Counter
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Literal

from dbwatch.facts import Holder
from dbwatch.holders import IDLE_SECONDS, WANTS_A_THREAD, holder_of, wants
from dbwatch.pools import POOLS, pool_limit, pool_size, pool_timeout
from dbwatch.records import NO_REQUEST, Checkout, Request, Site

#: Holders listed one by one.
LISTED: Final = 50

Verdict = Literal["leak", "nested", "threads", "idle_holds", "long_transactions", "too_small"]

_MEANING: Final[dict[Verdict, str]] = {
    "leak": "Most connections are leaked: their requests have ended and never gave them back.",
    "nested": "The holders are waiting for another connection themselves: they wait for each other.",
    "threads": "The holders wait for a thread, and the threads wait for a connection: they wait for each other.",
    "idle_holds": "Most connections are held by requests that run no SQL.",
    "long_transactions": "Most connections are busy with long statements or transactions.",
    "too_small": "The holders change quickly and all work: there are more requests than connections.",
}

_REMEDIES: Final[dict[Verdict, tuple[str, ...]]] = {
    "leak": (
        "Close the session on every path at the lines above: yield it inside `with` or `try/finally`.",
        "Until that is deployed, restarting the process frees the connections.",
        "A larger pool only delays the next timeout.",
    ),
    "nested": (
        "Use one session for the whole request at the lines above, or give the first back before taking the second.",
        "Until then, limit such requests at once to fewer than the pool's limit.",
        "N requests that each need C connections need a limit of N x (C - 1) + 1.",
    ),
    "threads": (
        "Commit before a plain `def` dependency at the lines above returns: the endpoint is another call in a thread.",
        "Until then, admit no more requests at once than the pool's limit (uvicorn --limit-concurrency, a queue).",
        "Or use an async engine in `async def`: its waits need no thread.",
    ),
    "idle_holds": (
        "Commit or close the session before the slow part (HTTP call, sleep, rendering) at the lines above.",
        'With FastAPI, Depends(get_db, scope="function") gives the connection back before the response is sent.',
        "Raise pool_size only for what still waits after that.",
    ),
    "long_transactions": (
        "Make the statements above faster (index, plan, locks), or move them out of the request.",
        "Set a statement timeout on the server, so that one statement cannot starve the others.",
        "Raise pool_size only if the server has room for more work at once.",
    ),
    "too_small": (
        "Raise pool_size, as far as the server's max_connections allows for all workers together.",
        "Or admit fewer requests at once: fewer threads, a semaphore, or a queue in front.",
        "Shorten the holds above; half the hold is as good as twice the pool.",
    ),
}


@dataclass(frozen=True, slots=True)
class TimeoutReport:
    """A pool at the moment in which a checkout gave up. Taken at once; it holds no connection and no frame."""

    pool: str
    request: Request | None
    site: Site
    waited_seconds: float
    timeout_seconds: float
    used: int
    idle: int
    size: int
    limit: float
    waiters: int
    verdict: Verdict
    holders: tuple[Holder, ...]
    left_out: int

    @property
    def remedies(self) -> tuple[str, ...]:
        """What to do, most effective first."""
        return _REMEDIES[self.verdict]

    def text(self) -> str:
        """The report as one log record."""
        overflow = max(0, self.used - self.size)
        state = (
            f"No connection for {self.waited_seconds:.2f} s (pool_timeout {self.timeout_seconds:g} s): "
            f"{self.used} used ({overflow} overflow), {self.idle} idle, size {self.size}, limit {self.limit:g}, "
            f"{self.waiters} still waiting."
        )
        holders = (
            "Holders, longest first:" if self.holders else "Holders: none; all connections change hands right now."
        )
        lines = [f"{state} {_MEANING[self.verdict]}", holders]
        lines += [f"  {number}. {_line(holder)}" for number, holder in enumerate(self.holders, 1)]
        if self.left_out:
            lines.append(f"  and {self.left_out} more")
        lines.append("What to do:")
        lines += [f"  {number}. {remedy}" for number, remedy in enumerate(self.remedies, 1)]
        return "\n".join(lines)


def take(victim: Checkout) -> TimeoutReport:
    """Look at the victim's pool now. Called where SQLAlchemy raises its timeout, in the victim's thread."""
    now = perf_counter()
    name = victim.pool.name
    pools = [watched for watched in POOLS.watched() if watched.name == name]
    out = [checkout for watched in pools for checkout in list(watched.open) if checkout.is_open()]
    for checkout in out:
        if checkout.request is not None and checkout.request is victim.request:
            # Who waits for each other begins at the same time: the next report must still know of this one.
            checkout.starved = True
    waited = victim.wait or 0.0
    out.sort(key=lambda checkout: checkout.taken_at or now)
    pool = victim.pool.pool()
    checkedin = getattr(pool, "checkedin", None)
    idle = checkedin() if callable(checkedin) else 0
    return TimeoutReport(
        pool=name,
        request=victim.request,
        site=victim.site,
        waited_seconds=waited,
        timeout_seconds=pool_timeout(pool) if pool is not None else 0.0,
        used=len(out),
        idle=idle,
        size=pool_size(pool) if pool is not None else 0,
        limit=pool_limit(pool) if pool is not None else 0.0,
        # Counted, not looked at: of thousands that give up together each makes a report.
        waiters=sum(len(watched.waiting) for watched in pools),
        verdict=judge(out, waited, now, idle),
        holders=tuple(holder_of(checkout, now) for checkout in out[:LISTED]),
        left_out=max(0, len(out) - LISTED),
    )


def judge(holders: list[Checkout], waited: float, now: float, idle: int) -> Verdict:
    """The verdict of the majority of holders; of equally many, the one that a larger pool would help least. ``idle``
    is the number of connections that nobody holds.
    """
    counts: Counter[Verdict] = Counter(_class_of(checkout, waited, now) for checkout in holders)
    order: tuple[Verdict, ...] = ("nested", "threads", "leak", "idle_holds", "long_transactions", "too_small")
    verdict = max(order, key=lambda verdict: (counts[verdict], -order.index(verdict))) if counts else "too_small"
    # What is idle while requests wait has come back just now, and was no long transaction.
    return "too_small" if verdict == "long_transactions" and counts[verdict] < idle else verdict


def _class_of(checkout: Checkout, waited: float, now: float) -> Verdict:
    if checkout.leaked:
        return "leak"
    # What executes waits for nobody; it is another task of its request that does.
    wanted = "" if checkout.running else wants(checkout)
    if wanted:
        return "threads" if wanted == WANTS_A_THREAD else "nested"
    age = checkout.hold_seconds(now)
    executing = checkout.executing_seconds(now)
    idle = age - executing
    # A holder younger than half the wait came and will go: connections do become free, only not enough of them. But if
    # it has idled most of its time, a shorter hold is what is needed, however often the holders change.
    if age < waited / 2:
        idles = checkout.statements and not checkout.streaming
        return "idle_holds" if idles and idle >= max(IDLE_SECONDS, age / 2) else "too_small"
    if executing >= age / 2 or checkout.streaming:
        return "long_transactions"
    # Who has given up waiting for another rolls back next; what it has idled for was that wait.
    return "nested" if checkout.starved else "idle_holds"


def _line(holder: Holder) -> str:
    if holder.leaked:
        doing = "leaked"
    elif holder.executing:
        doing = "executing"
    elif holder.wants:
        doing = holder.wants
    else:
        doing = "idle"
    who = holder.route if holder.method == NO_REQUEST else f"{holder.method} {holder.route}"
    where = f" at {holder.lines[0]}" if holder.lines else ""
    if holder.now_at and holder.now_at not in holder.lines[:1]:
        where += f", now at {holder.now_at}"
    if holder.made_at and holder.made_at not in holder.lines[:1]:
        where += f", session made at {holder.made_at}"
    statement = f", last statement: {holder.last_statement}" if holder.last_statement else ""
    return (
        f"{who}: {holder.age_seconds:.2f} s, {doing} (executing {holder.executing_seconds:.2f} s in all)"
        f"{where}{statement}"
    )
