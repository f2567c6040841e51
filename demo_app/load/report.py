"""What the load generator did and saw. Times are seconds."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class RouteReport:
    """One method and route template, which is ``(unmatched)`` for paths that the app does not have.

    ``statuses`` counts the answers by status. ``unanswered`` counts requests whose connection failed, of which nobody
    knows how far they came. ``checkouts`` is how many connections the answered requests had to take from the pool.
    """

    method: str
    route: str
    statuses: dict[int, int]
    unanswered: int
    checkouts: int
    p50: float
    p95: float

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(self.statuses.values()) + self.unanswered


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A whole run. ``unexpected`` counts the requests that got another answer than they had to, or none."""

    seconds: float
    unexpected: int
    p50: float
    p95: float
    routes: tuple[RouteReport, ...]

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(route.requests for route in self.routes)

    @property
    def statuses(self) -> dict[int, int]:
        """How many answers of each status there were."""
        total: dict[int, int] = {}
        for route in self.routes:
            for status, count in route.statuses.items():
                total[status] = total.get(status, 0) + count
        return dict(sorted(total.items()))

    def checkouts(self, which: Callable[[RouteReport], bool] = lambda _: True) -> int:
        """How many connections the answered requests to these routes had to take from the pool."""
        return sum(route.checkouts for route in self.routes if which(route))

    def save(self, path: Path) -> None:
        """Write the report as JSON, with the totals for readers who do not want to add up."""
        totals = {"requests": self.requests, "statuses": self.statuses, "checkouts": self.checkouts()}
        path.write_text(json.dumps({**totals, **asdict(self)}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        saved = json.loads(path.read_text(encoding="utf-8"))
        routes = tuple(
            RouteReport(**{**route, "statuses": {int(status): count for status, count in route["statuses"].items()}})
            for route in saved["routes"]
        )
        return cls(saved["seconds"], saved["unexpected"], saved["p50"], saved["p95"], routes)
