"""Remarks on an engine's configuration: what each setting will do under load or at a restart. Pure functions."""

from collections.abc import Mapping
from typing import Final, Protocol

from dbwatch.outputs.live.document import Level, Remark

#: Clients, load balancers and gateways commonly give up after 30 or 60 s; users far earlier.
PATIENCE_SECONDS: Final = 10.0
#: AnyIO's default number of worker threads, in which FastAPI runs plain `def` endpoints and dependencies.
THREADS: Final = 40
#: ``max_connections`` as the servers are delivered, and what of it is kept for administrators.
SERVER_DEFAULTS: Final[Mapping[str, tuple[str, int]]] = {
    "postgresql": ("PostgreSQL", 97),
    "mysql": ("MySQL", 151),
    "mariadb": ("MariaDB", 151),
}


class _Say(Protocol):
    def __call__(self, setting: str, level: Level, text: str) -> None: ...


def remarks(
    attributes: Mapping[str, str], *, size: int, limit: int | None, timeout: float | None, workers: int
) -> list[Remark]:
    """Remarks on the pool of one worker, most serious first.

    Args:
        attributes: pool_class, dialect, driver, server, pre_ping, recycle, as ``dbwatch_pool_info`` has them.
        size: pool_size.
        limit: pool_size + max_overflow, None if unlimited.
        timeout: seconds a checkout may wait, 0 without a queue, None for ever.
        workers: processes that have this pool.
    """
    found: list[Remark] = []

    def say(setting: str, level: Level, text: str) -> None:
        found.append({"setting": setting, "level": level, "text": text})

    local = attributes.get("server") == "(local)"
    if attributes.get("pool_class") == "NullPool":
        say("poolclass", "warning", "NullPool opens a connection for every checkout, and nothing limits how many.")
        return found
    queued = "QueuePool" in attributes.get("pool_class", "")
    if attributes.get("pre_ping") == "false" and not local:
        say(
            "pool_pre_ping",
            "warning",
            "Off: after a restart of the database, each idle connection fails one request. Turn it on; it costs one "
            "round trip a checkout.",
        )
    _limits(attributes, limit, workers, say)
    if not queued:
        return found
    if timeout is None or timeout > PATIENCE_SECONDS:
        said = "never ends" if timeout is None else f"of {timeout:g} s is longer than most clients wait"
        say(
            "pool_timeout",
            "warning",
            f"The wait {said}: requests queue for answers that nobody reads any more. Set it below the timeout of "
            "your clients or proxy.",
        )
    if limit is not None and "Async" not in attributes.get("pool_class", "") and limit < THREADS:
        say(
            "limit",
            "ok",
            f"Plain def endpoints run in {THREADS} threads (AnyIO's default) and share {limit} connections: up to "
            f"{THREADS - limit} of them can wait.",
        )
    if limit is not None and limit - size > size:
        say(
            "max_overflow",
            "ok",
            f"More overflow ({limit - size}) than size ({size}): what is used every day is cheaper as pool_size, "
            "because overflow connections are closed when they come back.",
        )
    if attributes.get("recycle") == "-1" and attributes.get("pre_ping") == "false" and not local:
        say("pool_recycle", "ok", "Off: connections live until the server or a firewall cuts them.")
    return found


def _limits(attributes: Mapping[str, str], limit: int | None, workers: int, say: _Say) -> None:
    if limit is None:
        if "QueuePool" in attributes.get("pool_class", ""):
            say("max_overflow", "warning", "Unlimited: under load the server's own limit is met first.")
        return
    product, default = SERVER_DEFAULTS.get(attributes.get("dialect", ""), ("", 0))
    if not product:
        return
    together = limit * workers
    sum_of = f"{workers} workers x {limit} = {together} connections" if workers > 1 else f"{limit} connections"
    if together > default:
        say(
            "limit",
            "warning",
            f"{sum_of}, more than {product} allows as delivered ({default}): make sure that max_connections is above "
            "the sum over all workers and instances.",
        )
    elif workers > 1:
        say("limit", "ok", f"{sum_of} at most; {product} allows {default} as delivered.")
