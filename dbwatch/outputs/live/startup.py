"""What the configuration of the engines will do later, in one short block of the log when the first one is used."""

import logging
from collections.abc import Iterable, Sequence

from dbwatch.catalog import FINDINGS
from dbwatch.facts import Remark
from dbwatch.outputs.live.remarks import Configuration, remarks

logger = logging.getLogger("dbwatch")

#: What concerns those who serve requests only: a script takes its connections one after the other.
_OF_SERVERS = frozenset({"null_pool", "more_threads_than_connections", "long_timeout"})


def risks(pool: Configuration, ignored: Sequence[str], *, serves: bool) -> list[Remark]:
    """The remarks on a pool that are worth a warning. ``serves`` is True in a process that answers requests."""
    return [
        remark
        for remark in remarks(pool)
        if remark.level == "warning" and remark.name not in ignored and (serves or remark.name not in _OF_SERVERS)
    ]


def say(pools: Iterable[tuple[str, Configuration]], ignored: Sequence[str], *, serves: bool) -> None:
    """Log what is risky about these pools; nothing if nothing is."""
    found = [(name, remark) for name, pool in pools for remark in risks(pool, ignored, serves=serves)]
    if not found:
        return
    lines = [f"  pool {name}, {remark.setting} ({remark.name}): {remark.text}" for name, remark in found]
    example = found[0][1].name
    logger.warning(
        "Settings that will hurt later [risky_configuration]:\n%s\n"
        "  Silence one by its name: ignore_advice=[%r], or DBWATCH_IGNORE_ADVICE=%s. More: %s",
        "\n".join(lines),
        example,
        example,
        FINDINGS["risky_configuration"].page,
        extra={
            "dbwatch_finding": "risky_configuration",
            "dbwatch_advice": [{"pool": name, "name": remark.name, "text": remark.text} for name, remark in found],
        },
    )
