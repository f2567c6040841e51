"""Remarks on an engine's configuration: what each setting will do under load or at a restart. Pure functions.

Those of level ``warning`` are ``risky_configuration``; the others are good to know.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dbwatch.facts import Remark

#: Users have gone after this time; load balancers and gateways commonly give up after 30 or 60 s.
PATIENCE_SECONDS: Final = 10.0
PATIENCE_OF_PROXIES: Final = 30.0
#: AnyIO's default number of worker threads, in which FastAPI runs plain `def` endpoints and dependencies.
THREADS: Final = 40
#: As the servers are delivered: ``max_connections`` less what is kept for administrators, and the seconds after which
#: an idle connection is closed, 0 for never.
SERVER_DEFAULTS: Final[Mapping[str, tuple[str, int, int]]] = {
    "postgresql": ("PostgreSQL", 97, 0),
    "mysql": ("MySQL", 151, 28_800),
    "mariadb": ("MariaDB", 151, 28_800),
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is known of a pool and its surroundings.

    Attributes:
        attributes: pool_class, dialect, driver, server, pre_ping, recycle, as ``dbwatch_pool_info`` has them.
        size: pool_size.
        limit: pool_size + max_overflow, None if unlimited.
        timeout: seconds a checkout may wait, 0 without a queue, None for ever.
        workers: processes that have this pool.
        threads: threads in which plain ``def`` endpoints run.
        server_allows: connections that the server has for everybody, None if it was not asked.
        server_idle_seconds: time after which it closes an idle connection, 0 for never; None if it was not asked.
    """

    attributes: Mapping[str, str]
    size: int
    limit: int | None
    timeout: float | None
    workers: int = 1
    threads: int = THREADS
    server_allows: int | None = None
    server_idle_seconds: int | None = None

    @property
    def local(self) -> bool:
        """True for a database in a file or in memory."""
        return self.attributes.get("server") == "(local)"

    @property
    def queued(self) -> bool:
        """True if checkouts wait in a queue for a free connection."""
        return "QueuePool" in self.attributes.get("pool_class", "")

    @property
    def pings(self) -> bool:
        """False only if it is known that connections are handed out untested."""
        return self.attributes.get("pre_ping") != "false"

    @property
    def recycle(self) -> int | None:
        """Seconds after which a connection is replaced, -1 for never; None if that is not known."""
        try:
            return int(self.attributes.get("recycle", ""))
        except ValueError:
            return None


def remarks(pool: Configuration) -> list[Remark]:
    """The remarks on a pool, most serious first."""
    if pool.attributes.get("pool_class") == "NullPool":
        text = "NullPool opens a connection for every checkout, and nothing limits how many."
        return [Remark("null_pool", "poolclass", "warning", text)]
    found = [*_connections(pool), *_limits(pool), *(_queue(pool) if pool.queued else ())]
    return sorted(found, key=lambda remark: remark.level != "warning")


def _connections(pool: Configuration) -> Iterator[Remark]:
    if pool.pings or pool.local:
        return
    yield Remark(
        "no_pre_ping",
        "pool_pre_ping",
        "warning",
        "Off: after a restart of the database, each idle connection fails one request. Turn it on; it costs one round "
        "trip a checkout.",
    )
    if pool.recycle is None:
        return
    product, _, delivered = SERVER_DEFAULTS.get(pool.attributes.get("dialect", ""), ("", 0, 0))
    told = pool.server_idle_seconds is not None
    idle = pool.server_idle_seconds if pool.server_idle_seconds is not None else delivered
    if idle and not 0 <= pool.recycle < idle:
        setting = "Off" if pool.recycle < 0 else f"{pool.recycle} s"
        source = "the server" if told else f"{product} as delivered"
        text = (
            f"{setting}, and {source} closes connections that are idle for {idle} s: the next request gets a dead one."
        )
        yield Remark("recycle_above_idle_timeout", "pool_recycle", "warning", f"{text} Set it below that.")
    elif pool.recycle < 0:
        text = "Off: connections live until the server or a firewall cuts them."
        yield Remark("no_recycle", "pool_recycle", "ok", text)


def _limits(pool: Configuration) -> Iterator[Remark]:
    if pool.limit is None:
        if pool.queued:
            text = "Unlimited: under load the server's own limit is met first."
            yield Remark("unlimited_overflow", "max_overflow", "warning", text)
        return
    product, delivered, _ = SERVER_DEFAULTS.get(pool.attributes.get("dialect", ""), ("", 0, 0))
    allowed = pool.server_allows or delivered
    if not allowed:
        return
    says = f"the server allows ({allowed})" if pool.server_allows else f"{product} allows as delivered ({allowed})"
    together = pool.limit * pool.workers
    sum_of = (
        f"{pool.workers} workers x {pool.limit} = {together} connections"
        if pool.workers > 1
        else f"{pool.limit} connections"
    )
    if together > allowed:
        text = f"{sum_of}, more than {says}: keep the sum over all workers and instances below max_connections."
        yield Remark("more_than_server_allows", "limit", "warning", text)
    elif pool.workers > 1:
        yield Remark("share_of_server", "limit", "ok", f"{sum_of} at most; not more than {says}.")


def _queue(pool: Configuration) -> Iterator[Remark]:
    if pool.timeout is None or pool.timeout > PATIENCE_SECONDS:
        said = "never ends" if pool.timeout is None else f"of {pool.timeout:g} s is longer than most users wait"
        risky = pool.timeout is None or pool.timeout > PATIENCE_OF_PROXIES
        text = (
            f"The wait {said}: requests queue for answers that nobody reads any more. Set it below the timeout of your "
            "clients or proxy."
        )
        yield Remark("long_timeout", "pool_timeout", "warning" if risky else "ok", text)
    if pool.limit is None:
        return
    if "Async" not in pool.attributes.get("pool_class", "") and pool.limit < pool.threads:
        text = (
            f"Plain def endpoints run in {pool.threads} threads and share {pool.limit} connections: up to "
            f"{pool.threads - pool.limit} of them can wait. Raise the pool, or lower the threads (AnyIO's limiter)."
        )
        level: Final = "ok" if pool.local else "warning"
        yield Remark("more_threads_than_connections", "limit", level, text)
    if pool.limit - pool.size > pool.size:
        text = (
            f"More overflow ({pool.limit - pool.size}) than size ({pool.size}): what is used every day is cheaper as "
            "pool_size, because overflow connections are closed when they come back."
        )
        yield Remark("more_overflow_than_size", "max_overflow", "ok", text)
