"""The ledger: what has happened so far, added up. Facts are posted lock-free and folded in by one writer at a time.

:func:`Ledger.post` appends to a deque, which is all that a listener may do that a garbage collection can run in the
middle of somebody's critical section. :func:`Ledger.fold` takes the facts out in order and adds them to the
accumulators; it runs at the end of a request, before a checkout and at a scrape, so the deque cannot grow unscraped.
"""

from collections import deque
from collections.abc import Callable
from threading import RLock, get_ident
from time import perf_counter
from typing import Any, Protocol

from dbwatch import guard
from dbwatch.accumulators import Accumulators, PoolSeries, RouteSeries
from dbwatch.catalog import METRICS
from dbwatch.records import LONG_REQUEST_SECONDS, NO_REQUEST, OTHER, Checkout, Request, WatchedPool
from dbwatch.routes import route_of

#: Facts that may wait before a request or a checkout stops to fold them; folding in batches halves its cost.
BATCH = 32
#: Pairs of method and route that get series of their own (DESIGN: bounded labels).
ROUTE_LIMIT = 200


class Observer(Protocol):
    """Hears of single facts, in the fold, after they have been added up."""

    def attempt_ended(self, checkout: Checkout) -> None:
        """A checkout was served or gave up."""

    def hold_ended(self, checkout: Checkout) -> None:
        """A connection was given back, thrown away, detached or reclaimed."""

    def request_ended(self, request: Request, labels: tuple[str, str]) -> None:
        """A request ended that had tried at least one checkout."""


class Ledger:
    """Facts in, series out."""

    def __init__(self) -> None:
        #: Facts not yet folded, each with what folds it. What every request posts is appended here without a call.
        self.facts: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._lock = RLock()
        self._folding = False
        self._after_fold: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._reporting: set[int] = set()
        self._starters: list[Callable[[], None]] = []
        #: What is to be started at the next checkout; usually nothing any more.
        self.not_started: list[Callable[[], None]] = []
        #: Those who are told of single facts; usually there are none.
        self.observers: tuple[Observer, ...] = ()
        self._reset()

    def _reset(self) -> None:
        self.accumulators = Accumulators()
        self._pools: dict[str, PoolSeries] = {}
        self._routes: dict[tuple[str, str], RouteSeries] = {}
        for label in METRICS["dbwatch_label_overflow_total"].values:
            self.accumulators.counter("dbwatch_label_overflow_total", label)

    # Posting: safe anywhere, also inside a garbage collection.

    def post(self, fold: Callable[[Any], object], fact: Any) -> None:
        """Leave a fact for the next fold, which will call ``fold(fact)``."""
        self.facts.append((fold, fact))

    # Folding: one writer at a time.

    def fold_if_due(self) -> None:
        """Fold when enough facts have gathered, unless somebody else is folding; never waits."""
        if self.not_started:
            self._start()
        if len(self.facts) >= BATCH:
            self.try_fold()

    def try_fold(self) -> None:
        """Fold everything posted so far, unless somebody else is folding; never waits."""
        if self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()
            self._report()

    def fold(self) -> None:
        """Fold everything posted so far, waiting for a fold under way in another thread."""
        with self._lock:
            self._fold()
        self._report()

    def _fold(self) -> None:
        # The lock is reentrant and this flag stops the second entry: an application's log handler may check out a
        # connection while we log.
        if self._folding:
            return
        self._folding = True
        try:
            facts = self.facts
            while facts:
                try:
                    fold, fact = facts.popleft()
                except IndexError:  # emptied by another thread that starts anew
                    break
                try:
                    fold(fact)
                except Exception as error:  # noqa: BLE001  whatever it is, it must not reach the app
                    guard.note("ledger.fold", error)
            for site, trace in guard.drain():
                self.accumulators.counter("dbwatch_internal_errors_total", site).value += 1
                if trace is not None:
                    self.after_fold(guard.report, (site, trace))
        finally:
            self._folding = False

    def _report(self) -> None:
        # A listener or a log handler may take a connection itself and so come back here. What that brings waits for
        # the next report: with the pool empty, each report would bring another one, and the victim would never return.
        thread = get_ident()
        if thread in self._reporting:
            return
        self._reporting.add(thread)
        try:
            for _ in range(len(self._after_fold)):
                try:
                    call, subject = self._after_fold.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    call(subject)
                except Exception as error:  # noqa: BLE001  a log handler of the app
                    guard.note("ledger.report", error)
        finally:
            self._reporting.discard(thread)

    def after_fold(self, call: Callable[[Any], object], subject: Any) -> None:
        """Have ``call(subject)`` made after the fold, with its lock free: for what writes logs or calls the app."""
        self._after_fold.append((call, subject))

    def at_first_checkout(self, start: Callable[[], None]) -> None:
        """Call ``start`` at the next checkout, and in every forked child at its first: a server may fork after the
        app was built, and threads do not survive that.
        """
        self._starters.append(start)
        self.not_started.append(start)

    def _start(self) -> None:
        while self.not_started:
            try:
                start = self.not_started.pop()
            except IndexError:  # another thread was quicker
                return
            start()

    def start_anew(self) -> None:
        """Forget everything, in a forked child: the parent goes on counting what the parent did."""
        self._lock = RLock()
        self.facts.clear()
        self._after_fold.clear()
        self._reporting.clear()
        self._folding = False
        self.not_started = list(self._starters)
        self._reset()

    # What the facts mean. Each runs in the fold only.

    def pool_series(self, pool: str) -> PoolSeries:
        """The series of a pool; the first call puts them at 0."""
        series = self._pools.get(pool)
        if series is None:
            series = self._pools[pool] = PoolSeries(self.accumulators, pool)
        return series

    def has_pool(self, pool: str) -> bool:
        """True if there are series of a pool of this name."""
        return pool in self._pools

    def route_labels(self, request: Request | None) -> tuple[str, str]:
        """Method and route as labels, folded into ``(other)`` past the bound."""
        if request is None:
            return (NO_REQUEST, NO_REQUEST)
        labels = (request.method, request.route or route_of(request))
        bounded = self.bound(labels)
        if bounded is not labels:
            self.accumulators.counter("dbwatch_label_overflow_total", "route").value += 1
        return bounded

    def bound(self, labels: tuple[str, str]) -> tuple[str, str]:
        """The labels themselves, or ``(other)`` if they are new and the bound is reached."""
        if labels in self._routes or len(self._routes) < ROUTE_LIMIT or labels[1] == NO_REQUEST:
            return labels
        return (OTHER, OTHER)

    def routes(self) -> list[tuple[str, str]]:
        """The pairs of method and route that have series."""
        return list(self._routes)

    def _route_series(self, labels: tuple[str, str]) -> RouteSeries:
        series = self._routes.get(labels)
        if series is None:
            series = self._routes[labels] = RouteSeries(self.accumulators, *labels)
        return series

    def watch_pool(self, pool: WatchedPool) -> None:
        """Fact: a pool was seen for the first time."""
        self.pool_series(pool.name)

    def forget_pool(self, pool: WatchedPool) -> None:
        """Fact: a pool object was garbage collected; what it had open went with it, with no event of its own."""
        if pool.live > 0:
            self.pool_series(pool.name).closed["gc"].value += pool.live
            pool.live = 0

    def connection_opened(self, checkout: Checkout) -> None:
        """Fact: a connection was opened for this checkout."""
        checkout.pool.live += 1
        self.pool_series(checkout.pool.name).opened.value += 1

    def connection_closed(self, fact: tuple[WatchedPool, str]) -> None:
        """Fact: a connection left the pool, for a reason of ``dbwatch_connections_closed_total``."""
        pool, reason = fact
        pool.live -= 1
        self.pool_series(pool.name).closed[reason].value += 1

    def pre_ping_failed(self, checkout: Checkout) -> None:
        """Fact: pre-ping found the connection of this checkout dead."""
        self.pool_series(checkout.pool.name).ping_failures.value += 1
        self._event(checkout, "pre_ping_failure")

    def attempt_ended(self, checkout: Checkout) -> float:  # noqa: C901  one step for each thing that may have happened
        """Fact: a checkout was served or gave up. Returns how many seconds that took."""
        series = self.pool_series(checkout.pool.name)
        outcome = checkout.outcome
        assert outcome is not None
        assert checkout.taken_at is not None
        seconds = checkout.taken_at - checkout.asked_at
        series.checkout[outcome].observe(seconds)
        if checkout.wait is not None:
            series.phase["wait"].observe(checkout.wait)
        if checkout.connect is not None:
            series.phase["connect"].observe(checkout.connect)
        if checkout.ping is not None:
            series.phase["ping"].observe(checkout.ping)
        if checkout.overflow:
            series.overflow.value += 1
            self._event(checkout, "overflow")
        if outcome == "timeout":
            series.timeouts.value += 1
            self._event(checkout, "timeout")
        request = checkout.request
        if request is not None:
            request.checkouts += 1
            request.checkout_seconds += seconds
            if checkout.wait is not None:
                request.wait += checkout.wait
            if checkout.on_loop:
                request.blocked += seconds
            if request.posted or not request.reported:
                blocked = seconds if checkout.on_loop else 0.0
                self._late(request, checkouts=1, wait=checkout.wait or 0.0, blocked=blocked)
        for observer in self.observers:
            observer.attempt_ended(checkout)
        return seconds

    def connect_failed(self, checkout: Checkout) -> None:
        """Fact: opening a connection for this checkout failed."""
        self.pool_series(checkout.pool.name).connect_errors.value += 1

    def hold_ended(self, checkout: Checkout) -> float:
        """Fact: a connection was given back, thrown away, detached or reclaimed. Returns the seconds it was held."""
        assert checkout.taken_at is not None
        assert checkout.returned_at is not None
        series = self.pool_series(checkout.pool.name)
        seconds = checkout.returned_at - checkout.taken_at
        executing = min(seconds, checkout.executing)
        series.hold.observe(seconds)
        series.executing.value += executing
        unknown = checkout.streaming or checkout.interrupted or not checkout.statements
        (series.unknown if unknown else series.idle).value += seconds - executing
        if checkout.leaked:
            series.leaks_returned.value += 1
        elif checkout.reclaimed and not checkout.pool.shared:
            series.leaks["gc"].value += 1
            self._event(checkout, "leak")
        request = checkout.request
        if request is not None:
            if request.ended_at is None or checkout.returned_at <= request.ended_at:
                request.hold_seconds += seconds
            request.executing += executing
            request.statements += checkout.statements
            request.blocked += checkout.blocked
            if request.posted or not request.reported:
                self._late(request, executing=executing, statements=checkout.statements, blocked=checkout.blocked)
        for observer in self.observers:
            observer.hold_ended(checkout)
        return seconds

    def leaked(self, checkout: Checkout) -> None:
        """Fact: a connection is still out although its request and its owner have ended."""
        self.pool_series(checkout.pool.name).leaks["request_end"].value += 1
        self._event(checkout, "leak")

    def request_ended(self, request: Request) -> None:
        """Fact: a request ended that had tried at least one checkout."""
        labels = self.route_labels(request)
        series = self._route_series(labels)
        series.checkout.observe(request.checkout_seconds)
        series.hold.observe(request.hold_seconds + request.held_at_end)
        if not request.posted:
            self._post(labels, series, request)
        for observer in self.observers:
            observer.request_ended(request, labels)

    def _post(self, labels: tuple[str, str], series: RouteSeries, request: Request) -> None:
        request.posted = True
        series.executing.value += request.executing
        series.checkouts.value += request.checkouts
        series.statements.value += request.statements
        # Nothing to add, mostly.
        if request.wait:
            series.wait.value += request.wait
        if request.blocked:
            series.blocked.value += request.blocked
        if request.events:
            for pool, event in request.events:
                self._count_event(pool, labels, event)
            request.events.clear()

    def _late(
        self,
        request: Request,
        *,
        checkouts: int = 0,
        wait: float = 0.0,
        executing: float = 0.0,
        statements: int = 0,
        blocked: float = 0.0,
    ) -> None:
        """Count at once what belongs to a request that has been counted already, or that has run for long."""
        if request.posted:
            series = self._route_series(self.route_labels(request))
            series.checkouts.value += checkouts
            series.wait.value += wait
            series.executing.value += executing
            series.statements.value += statements
            series.blocked.value += blocked
        elif _will_not_end(request):
            labels = self.route_labels(request)
            self._post(labels, self._route_series(labels), request)

    def _event(self, checkout: Checkout, event: str) -> None:
        request = checkout.request
        if request is not None and not request.posted:
            request.events.append((checkout.pool.name, event))
        else:
            self._count_event(checkout.pool.name, self.route_labels(request), event)

    def _count_event(self, pool: str, labels: tuple[str, str], event: str) -> None:
        self.accumulators.counter("dbwatch_route_events_total", pool, *labels, event).value += 1


def _will_not_end(request: Request) -> bool:
    """True if no end of the request is to come soon: it has run for long, or it ended before it was seen that a task of
    it, in another thread, was just asking for its first connection.
    """
    if request.ended_at is not None:
        return not request.reported
    return perf_counter() - request.started_at > LONG_REQUEST_SECONDS


#: The ledger of this process: SQLAlchemy's classes are hooked once for the whole process.
LEDGER = Ledger()
