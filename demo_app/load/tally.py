"""Counting what was sent and answered, from locust's request event."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from locust.stats import RequestStats, StatsEntry

from demo_app.load.report import LoadReport, RouteReport


@dataclass(slots=True)
class _Route:
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    checkouts: int = 0


class Tally:
    """The ground truth of a run: what the users did, whatever the app says about itself."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], _Route] = {}
        self._unexpected = 0

    @property
    def unexpected(self) -> int:
        """Requests that got another answer than they had to, or none."""
        return self._unexpected

    @property
    def statuses(self) -> Counter[int]:
        """Answers by status."""
        return sum((route.statuses for route in self._routes.values()), Counter())

    def record(
        self, request_type: str, name: str, response: Any, exception: object, context: dict[str, Any], **_: object
    ) -> None:
        """Take note of one finished request; the signature is that of locust's event."""
        route = self._routes.setdefault((request_type, name), _Route())
        if response.status_code:
            route.statuses[response.status_code] += 1
            route.checkouts += context["checkouts"]
        else:
            route.unanswered += 1
        self._unexpected += exception is not None

    def report(self, stats: RequestStats, seconds: float) -> LoadReport:
        """All that was counted, with the response times that locust keeps."""
        routes = tuple(
            RouteReport(
                method=method,
                route=name,
                statuses=dict(sorted(route.statuses.items())),
                unanswered=route.unanswered,
                checkouts=route.checkouts,
                p50=percentile(stats.get(name, method), 0.5),
                p95=percentile(stats.get(name, method), 0.95),
            )
            for (method, name), route in sorted(self._routes.items(), key=lambda item: (item[0][1], item[0][0]))
        )
        total = stats.total
        return LoadReport(seconds, self._unexpected, percentile(total, 0.5), percentile(total, 0.95), routes)


def percentile(entry: StatsEntry, share: float) -> float:
    """The response time in seconds within which this share of the requests was answered."""
    return float(entry.get_response_time_percentile(share)) / 1000
