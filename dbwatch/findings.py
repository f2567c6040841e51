"""Findings: counted, kept in a ring, and handed to whoever listens. What makes a finding is decided in judgement.py."""

import time
from collections import deque
from collections.abc import Callable

from dbwatch.callsites import describe
from dbwatch.facts import Finding
from dbwatch.guard import guarded
from dbwatch.ledger import LEDGER, Ledger
from dbwatch.records import Checkout, Request, Site

#: Findings kept for programs, the live page and tests.
KEPT = 500

Listener = Callable[[Finding], object]
#: Called in the fold, with the request the finding is about: it must be quick, and call nothing of the app.
Witness = Callable[[Finding, Request | None], object]


class Findings:
    """The findings of this process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ring: deque[Finding] = deque(maxlen=KEPT)
        self._listeners: list[Listener] = []
        #: Who hears of a finding at the moment it is proven, in the fold.
        self.witnesses: tuple[Witness, ...] = ()
        # Leaks by the checkout that is still out, and those whose connection has come back since.
        self._out: dict[Checkout, Finding] = {}
        self._returned: deque[Finding] = deque(maxlen=KEPT)

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
        self._out.clear()
        self._returned.clear()

    def still_out(self, checkout: Checkout, leak: Finding) -> None:
        """Remember which checkout a leak was reported of. Called in the fold only."""
        if len(self._out) >= KEPT:
            del self._out[next(iter(self._out))]
        self._out[checkout] = leak

    def came_back(self, checkout: Checkout) -> None:
        """The connection of a reported leak has come back. Called in the fold only."""
        leak = self._out.pop(checkout, None)
        if leak is not None:
            self._returned.append(leak)

    def returned(self) -> tuple[Finding, ...]:
        """The last leaks whose connection has come back after all."""
        return tuple(self._returned)

    def report(
        self,
        finding: str,
        pool: str,
        request: Request | None,
        site: Site,
        *,
        message: str,
        numbers: dict[str, float],
    ) -> Finding:
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
        for witness in self.witnesses:
            witness(proven, request)
        self._ledger.after_fold(self._tell, proven)
        return proven

    def _tell(self, finding: Finding) -> None:
        for listener in list(self._listeners):
            _call(listener, finding)


@guarded("findings.listener")
def _call(listener: Listener, finding: Finding) -> None:
    listener(finding)


FOUND = Findings(LEDGER)
