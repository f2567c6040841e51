"""What a test does with the pools, from one moment to another: statements, checkouts, connections, holds."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from dbwatch.callsites import describe
from dbwatch.ledger import LEDGER
from dbwatch.pools import POOLS
from dbwatch.records import Checkout, Request
from dbwatch.routes import route_of
from dbwatch.runtime import flush


@dataclass(frozen=True, slots=True)
class Use:
    """What was done with the pools in a span of time.

    Attributes:
        statements: statements run.
        checkouts: connections taken, each time counted.
        connections: the most connections out at once.
        hold_seconds: how long connections were out, added up.
        places: the statements by where they ran: route and code line.
    """

    statements: int
    checkouts: int
    connections: int
    hold_seconds: float
    places: "Counter[str]"


class Holds:
    """The holds that have ended since the last call of :meth:`forget`, and those that the garbage collector ended."""

    def __init__(self) -> None:
        self.ended: list[Checkout] = []
        #: Reclaimed connections that no request had taken.
        self.reclaimed: list[Checkout] = []
        LEDGER.observers = (*LEDGER.observers, self)

    def forget(self) -> None:
        """Begin anew."""
        self.ended = []

    def attempt_ended(self, checkout: Checkout) -> None:
        """Tells nothing that its hold does not tell."""

    def hold_ended(self, checkout: Checkout) -> None:
        """A connection was given back, thrown away, detached or reclaimed."""
        self.ended.append(checkout)
        nobodys = checkout.request is None and checkout.spawner is None
        if checkout.reclaimed and nobodys and not checkout.leaked and not checkout.pool.shared:
            self.reclaimed.append(checkout)

    def request_ended(self, request: Request, labels: tuple[str, str]) -> None:
        """Tells nothing that its holds do not tell."""

    def out(self) -> Iterator[Checkout]:
        """The connections that are out now."""
        for pool in POOLS.watched():
            yield from list(pool.open)


class Tally:
    """Counts from its construction to its end, or to now."""

    def __init__(self, holds: Holds) -> None:
        flush()
        self._holds = holds
        self._began = perf_counter()
        # A fixture may have a connection out already, and have run statements on it.
        self._before = {checkout: checkout.statements for checkout in holds.out()}

    def use(self) -> Use:
        """What was done until now."""
        flush()
        now = perf_counter()
        statements = checkouts = 0
        seconds = 0.0
        places: Counter[str] = Counter()
        changes: list[tuple[float, int]] = []
        for hold in [*self._holds.ended, *self._holds.out()]:
            ended = math.inf if hold.returned_at is None else hold.returned_at
            if hold.taken_at is None or ended < self._began or (hold.leaked and hold.taken_at < self._began):
                continue  # over already, or the leak of an earlier test
            ran = hold.statements - self._before.get(hold, 0)
            statements += ran
            places[_place(hold)] += ran
            checkouts += hold.asked_at >= self._began
            begun = max(hold.taken_at, self._began)
            seconds += min(ended, now) - begun
            changes += [(begun, 1), (ended, -1)]
        return Use(statements, checkouts, _most_at_once(changes), seconds, +places)


def _most_at_once(changes: list[tuple[float, int]]) -> int:
    most = out = 0
    for _, change in sorted(changes):
        out += change
        most = max(most, out)
    return most


def _place(hold: Checkout) -> str:
    request = hold.request
    where = "outside requests" if request is None else f"{request.method} {route_of(request)}"
    return " ".join((where, *describe(hold.site[:1])))
