"""Findings in the log: one readable paragraph each, structured fields beside it, and no flood."""

import logging
import threading
from dataclasses import dataclass
from time import monotonic

from dbwatch.catalog import FINDINGS
from dbwatch.facts import Finding
from dbwatch.records import NO_REQUEST

logger = logging.getLogger("dbwatch")

#: Seconds between two records of the same finding at the same code line; those left out are counted in the next one.
INTERVAL = 60.0
#: The report of a checkout timeout differs each time, so it may come more often.
TIMEOUT_INTERVAL = 10.0
#: Pairs of finding and line remembered; the oldest is forgotten first.
_REMEMBERED = 1000


@dataclass(slots=True)
class _Said:
    at: float
    left_out: int = 0


class FindingLog:
    """Writes findings to the ``dbwatch`` logger at WARNING, rate-limited per finding and code line."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str, str], _Said] = {}
        self._lock = threading.Lock()

    def write(self, finding: Finding) -> None:
        """Log a finding, or count it as left out."""
        left_out = self._admit(finding, monotonic())
        if left_out is None:
            return
        logger.warning(
            "%s",
            paragraph(finding, left_out),
            extra={
                "dbwatch_finding": finding.finding,
                "dbwatch_pool": finding.pool,
                "dbwatch_method": finding.method,
                "dbwatch_route": finding.route,
                "dbwatch_request": finding.request,
                "dbwatch_lines": list(finding.lines),
                "dbwatch_numbers": dict(finding.numbers),
                "dbwatch_left_out": left_out,
            },
        )

    def _admit(self, finding: Finding, now: float) -> int | None:
        """How many were left out since the last record, None if this one is left out too."""
        line = finding.lines[0] if finding.lines else finding.route
        key = (finding.finding, finding.pool, "" if finding.finding == "checkout_timeout" else line)
        interval = TIMEOUT_INTERVAL if finding.finding == "checkout_timeout" else INTERVAL
        with self._lock:
            said = self._said.get(key)
            if said is not None and now - said.at < interval:
                said.left_out += 1
                return None
            left_out = 0 if said is None else said.left_out
            if said is None and len(self._said) >= _REMEMBERED:
                del self._said[next(iter(self._said))]
            self._said[key] = _Said(now)
            return left_out

    def forget(self) -> None:
        """Start anew, so that the next finding of each kind is written: between tests, and in a forked child."""
        self._lock = threading.Lock()
        self._said.clear()


def paragraph(finding: Finding, left_out: int = 0) -> str:
    """A finding for people: what, where, the numbers, the cause, the fix, the page."""
    kind = FINDINGS[finding.finding]
    where = "outside a request" if finding.method == NO_REQUEST else f"in {finding.method} {finding.route}"
    lines = "".join(f"\n    {line}" for line in finding.lines)
    message = finding.message.replace("\n", "\n  ")
    more = f" ({left_out} more of these were left out of the log since the last one.)" if left_out else ""
    return (
        f"{kind.title} [{finding.finding}] {where}, pool {finding.pool}.{lines}\n"
        f"  {message}\n  Cause: {kind.cause}\n  Fix: {kind.fix}\n  More: {kind.page}{more}"
    )


FINDING_LOG = FindingLog()


def log_slow_request(method: str, route: str, seconds: float, numbers: dict[str, float]) -> None:
    """One line for a request that took longer than the app's own limit."""
    logger.warning(
        "Slow request: %s %s took %.3f s (wait %.3f s, hold %.3f s, executing %.3f s, %d checkouts, %d statements).",
        method,
        route,
        seconds,
        numbers["wait_seconds"],
        numbers["hold_seconds"],
        numbers["executing_seconds"],
        numbers["checkouts"],
        numbers["statements"],
        extra={"dbwatch_method": method, "dbwatch_route": route, "dbwatch_numbers": {"seconds": seconds, **numbers}},
    )
