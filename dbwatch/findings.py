"""Findings: counted, kept in a ring, and handed to whoever listens. What makes a finding is decided in judgement.py."""

import time
from collections import deque
from collections.abc import Callable

from dbwatch.callsites import describe
from dbwatch.guard import guarded
from dbwatch.ledger import LEDGER, Ledger
from dbwatch.records import Finding, Request, Site

#: Findings kept for programs, the live page and tests.
KEPT = 500

Listener = Callable[[Finding], object]


class Findings:
    """The findings of this process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ring: deque[Finding] = deque(maxlen=KEPT)
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` with every finding from now on, once each, after the fold that proved it."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling ``listener``."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def recent(self) -> tuple[Finding, ...]:
        """The last findings, oldest first."""
        return tuple(self._ring)

    def clear(self) -> None:
        """Forget the ring: between tests, or in a forked child."""
        self._ring.clear()

    def report(
        self,
        finding: str,
        pool: str,
        request: Request | None,
        site: Site,
        *,
        message: str,
        numbers: dict[str, float],
    ) -> None:
        """Count a finding, keep it, and tell the listeners after the fold. Called in the fold only."""
        method, route = self._ledger.route_labels(request)
        self._ledger.accumulators.counter("dbwatch_findings_total", finding, pool, method, route).value += 1
        proven = Finding(
            finding=finding,
            at=time.time(),
            pool=pool,
            method=method,
            route=route,
            request=0 if request is None else request.number,
            lines=describe(site),
            message=message,
            numbers=numbers,
        )
        self._ring.append(proven)
        self._ledger.after_fold(self._tell, proven)

    def _tell(self, finding: Finding) -> None:
        for listener in list(self._listeners):
            _call(listener, finding)


@guarded("findings.listener")
def _call(listener: Listener, finding: Finding) -> None:
    listener(finding)


FOUND = Findings(LEDGER)
