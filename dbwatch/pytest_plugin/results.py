"""What the tests of a run have brought, added up over the workers of pytest-xdist, and the summary at its end."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from dbwatch.pytest_plugin.tally import Use

#: Tests in the summary.
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One test: what its body did with the database, and the findings, ignored ones included."""

    test: str
    statements: int
    checkouts: int
    connections: int
    hold_seconds: float
    findings: int

    @classmethod
    def of(cls, test: str, use: Use | None, findings: int) -> "Row":
        """The row of a test; ``use`` is None if its body did not run."""
        if use is None:
            return cls(test, 0, 0, 0, 0.0, findings)
        return cls(test, use.statements, use.checkouts, use.connections, use.hold_seconds, findings)


@dataclass(slots=True)
class Results:
    """The results of a run.

    Attributes:
        rows: each test that used the database, by its name.
        passed_over: findings that failed nothing, by their name and the reason.
        late: tests that had ended when something was found, and what it was.
        entries: lines for the baseline file.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    passed_over: "Counter[tuple[str, str]]" = field(default_factory=Counter)
    late: list[tuple[str, str]] = field(default_factory=list)
    entries: set[str] = field(default_factory=set)

    def add(self, row: Row) -> None:
        """Add a test, unless it has nothing to tell. One that ran again replaces its row."""
        if row.statements or row.checkouts or row.findings:
            self.rows[row.test] = row

    def give(self) -> dict[str, Any]:
        """All of it as plain lists, for another process."""
        return {
            "rows": [asdict(row) for row in self.rows.values()],
            "passed_over": [[*key, times] for key, times in self.passed_over.items()],
            "late": [list(one) for one in self.late],
            "entries": sorted(self.entries),
        }

    def take(self, given: dict[str, Any]) -> None:
        """Add what another process gave."""
        for row in given["rows"]:
            self.add(Row(**row))
        for finding, reason, times in given["passed_over"]:
            self.passed_over[(finding, reason)] += times
        self.late += [(test, text) for test, text in given["late"]]
        self.entries.update(given["entries"])

    def summary(self) -> Iterator[str]:
        """The lines for the end of the run."""
        rows = sorted(self.rows.values(), key=_weight, reverse=True)
        if not rows:
            yield "No test used the database."
        else:
            more = f", the {_SHOWN} that used it most" if len(rows) > _SHOWN else ""
            tests = "1 test" if len(rows) == 1 else f"{len(rows)} tests"
            yield f"{tests} used the database{more}:"
            yield "statements  checkouts  connections  held (s)  findings  test"
            for row in rows[:_SHOWN]:
                yield (
                    f"{row.statements:>10}  {row.checkouts:>9}  {row.connections:>11}  {row.hold_seconds:>8.3f}  "
                    f"{row.findings:>8}  {row.test}"
                )
        for (finding, reason), times in sorted(self.passed_over.items()):
            yield f"Not failed: {finding}, {times} times, because {reason}"
        for test, text in self.late:
            yield f"Found when {test} had ended:"
            yield text


def _weight(row: Row) -> tuple[int, int, float]:
    return (row.findings, row.statements, row.hold_seconds)
