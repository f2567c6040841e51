"""Which findings are new, and during which test their mistake was made.

Most are proven while their test runs. A leak may be proven later, when a task ends or the garbage collector comes by:
then it belongs to the test that took the connection, not to the one that happens to run.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from dbwatch.facts import Finding
from dbwatch.findings import FOUND
from dbwatch.pytest_plugin.tally import Holds


@dataclass(frozen=True, slots=True)
class Start:
    """Where a test begins: its requests have larger numbers than ``number``, its holds are younger than ``at``."""

    test: str
    judged: bool
    number: int
    at: float


class Arrivals:
    """Findings as they arrive."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._last: Finding | None = next(reversed(FOUND.recent()), None)
        self._starts: list[Start] = []

    def begin(self, start: Start) -> None:
        """A test begins."""
        self._starts.append(start)

    def fresh(self) -> Iterator[tuple[Finding, Start | None]]:
        """What has been found since the last call, each with the test that it belongs to, None before the first."""
        new: list[Finding] = []
        for finding in reversed(FOUND.recent()):
            if finding is self._last:
                break
            new.append(finding)
        if new:
            self._last = new[0]
        for finding in reversed(new):
            yield finding, self._owner(finding)

    def _owner(self, finding: Finding) -> Start | None:
        if finding.request:
            position = bisect_right(self._starts, finding.request, key=lambda start: start.number)
        else:
            position = bisect_right(self._starts, self._taken_at(finding), key=lambda start: start.at)
        return self._starts[position - 1] if position else None

    def _taken_at(self, finding: Finding) -> float:
        """When the connection was taken, of a leak outside requests; now, of anything else."""
        if finding.finding == "leaked_connection":
            for number, hold in enumerate(self._holds.reclaimed):
                if hold.hold_seconds(0.0) == finding.numbers["held_seconds"]:
                    del self._holds.reclaimed[number]
                    return hold.asked_at
        return float("inf")
