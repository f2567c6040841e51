"""The model of a pool's bookkeeping, and the rules by which Hypothesis drives the real pool beside it."""

import gc
import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import exc
from sqlalchemy.pool import Pool, QueuePool

import dbwatch
from tests.bookkeeping.books import Books, internal_errors, open_new_books
from tests.bookkeeping.counted import CountedServer
from tests.bookkeeping.peer import Interruption, Peer, Position
from tests.bookkeeping.pools import Driven, Held, Kind, counted, idle_entries
from tests.bookkeeping.requests import RequestRunner
from tests.servers.waiting import eventually

T = TypeVar("T")
ErrorClass = type[BaseException] | None
Arm = tuple[str, Position, list[type[BaseException]]]

_DAY = 86_400.0
_numbers = itertools.count(1)


def _arms(*names: str) -> st.SearchStrategy[list[Arm]]:
    """Which listeners of the peer fail during a step, and how; mostly none."""

    def arm(name: str) -> st.SearchStrategy[Arm]:
        errors: list[type[BaseException]] = [ValueError, Interruption]
        if name == "checkout":
            errors.append(exc.DisconnectionError)
        positions: tuple[Position, ...] = ("first", "last")
        kinds = st.lists(st.sampled_from(errors), min_size=1, max_size=3)
        return st.tuples(st.just(name), st.sampled_from(positions), kinds)

    nothing: st.SearchStrategy[list[Arm]] = st.just([])
    return nothing | st.lists(st.sampled_from(names).flatmap(arm), max_size=2)


class Bookkeeping(RuleBasedStateMachine):
    """A pool, what the model knows of it, and what dbwatch says."""

    def __init__(self, kind: Kind, peer: Peer, in_request: RequestRunner) -> None:
        super().__init__()
        gc.freeze()  # the garbage collector runs after every step; it need not look at all that is there already
        open_new_books()
        self.kind = kind
        self.peer = peer
        self.in_request = in_request
        self.server = CountedServer()
        self.held: list[Held] = []
        self.detached: list[Held] = []
        self.attempts: Counter[str] = Counter()
        self.overflow_checkouts = 0
        self.leaks: Counter[str] = Counter()
        self.leaks_returned = 0
        # What a failing peer makes uncertain, in SQLAlchemy itself. All 0 as long as no peer fails.
        self.maybe_stranded = 0
        self.maybe_closed_early = 0
        self.maybe_reclaimed = 0
        self.maybe_connect_errors = 0
        self.pools: WeakSet[Pool] = WeakSet()

    @initialize(size=st.integers(1, 2), overflow=st.integers(0, 2), pre_ping=st.booleans(), lifo=st.booleans())
    def open_pool(self, size: int, overflow: int, pre_ping: bool, lifo: bool) -> None:
        """Make the engine."""
        options: dict[str, Any] = {"pool_pre_ping": pre_ping, "pool_recycle": _DAY}
        if self.kind.queued:
            options |= {"pool_size": size, "max_overflow": overflow, "pool_timeout": 0.0, "pool_use_lifo": lifo}
        self.size = size
        self.limit = size + overflow
        self.pre_ping = pre_ping
        self.driven = Driven(self.kind, self.server, **options)
        self.engine = self.driven.engine
        self.books = Books(f"pool-{next(_numbers)}")
        dbwatch.watch(self.engine, self.books.pool)
        self.pools.add(self.engine.pool)

    # What the rules have in common.

    def _run(self, call: Callable[..., T], *arguments: Any, arms: list[Arm]) -> tuple[T | None, ErrorClass]:
        """Run one call with the peer's listeners armed. Returns its result and the class of its error; the error
        itself would keep the connection alive through its traceback.
        """
        # What one failing checkout of a StaticPool throws away is everybody's connection.
        for name, position, errors in [] if self.kind.shared else arms:
            self.peer.arm(name, position, [error("the peer's") for error in errors])
        try:
            return self.driven.run(call, *arguments), None
        except (Exception, Interruption) as error:  # noqa: BLE001  whatever SQLAlchemy makes of it
            note(f"raised {error!r}")
            return None, type(error)

    def _settle(self) -> set[str]:
        """Disarm, let garbage go, and say which of the peer's listeners had failed."""
        # In each case SQLAlchemy may give up a connection without closing it, or close it without a sign.
        self.maybe_stranded += len(self.peer.failed)
        failed = set(self.peer.failed)
        self.peer.disarm()
        self.server.refusals = 0
        self.driven.collect_garbage()
        self.pools.add(self.engine.pool)
        self.maybe_closed_early += "close" in failed or failed >= {"checkout", "invalidate"}
        return failed

    def _full(self) -> bool:
        pool = self.engine.pool
        return isinstance(pool, QueuePool) and pool.checkedout() >= self.limit

    def _note_attempt(self, held: Held | None, error: ErrorClass, *, full: bool) -> None:
        assert (error is exc.TimeoutError) == full
        if held is not None:
            self.attempts["ok"] += 1
            self.held.append(held)
            used = sum(other.pool is held.pool for other in self.held)
            self.overflow_checkouts += self.kind.queued and used > self.size
        elif full:
            self.attempts["timeout"] += 1
        else:
            assert error is not None
            self.attempts["error" if issubclass(error, Exception) else "cancelled"] += 1

    def _end(self, index: int, *calls: Callable[[Held], None], arms: list[Arm]) -> None:
        """End a hold by these calls, the first of them with the peer armed."""
        held = self.held.pop(index % len(self.held))
        leaked = held.leaked
        self._may_go_with_its_pool(held)
        self.maybe_stranded += self.kind.shared and held.underneath.broken
        if self.kind.is_async and held.underneath.broken:
            arms = []  # aiosqlite's thread keeps the driver's last error, and with it a connection that fails to return
        self._run(calls[0], held, arms=arms)
        for call in calls[1:]:
            self._run(call, held, arms=[])
        held.forget()
        failed = self._settle()
        self.leaks_returned += leaked
        self.maybe_reclaimed += bool(failed) and not leaked

    def _may_go_with_its_pool(self, held: Held) -> None:
        """A connection that goes back to a pool its engine has disposed of is nobody's when that pool is collected."""
        self.maybe_stranded += held.pool is not self.engine.pool

    # Rules.

    @rule(arms=_arms("connect", "checkout", "checkin", "invalidate", "close"), refusals=st.sampled_from((0, 0, 0, 1)))
    def check_out(self, arms: list[Arm], refusals: int) -> None:
        """Check a connection out."""
        ping_fails = self.pre_ping and not arms and not refusals and self._surely_broken()
        failures = self.books.total("dbwatch_pre_ping_failures_total")
        full = self._full()
        self.server.refusals = 0 if self.kind.shared else refusals
        raw = len(self.server.opened) % 2 == 0
        held, error = self._run(lambda: Held.take(self.engine, raw=raw), arms=arms)
        self._note_attempt(held, error, full=full)
        self.maybe_connect_errors += bool(self._settle())
        if ping_fails:
            dbwatch.flush()
            assert self.books.total("dbwatch_pre_ping_failures_total") == failures + 1

    def _surely_broken(self) -> bool:
        """True if whichever connection is taken next is broken, and not so old that it is replaced without a ping."""
        pool = self.engine.pool
        entries = idle_entries(pool)
        return (
            isinstance(pool, QueuePool)
            and 0 < len(entries) == pool.checkedin()
            and all(
                counted(entry.dbapi_connection).broken
                and time.time() - entry.starttime < _DAY
                and not entry._is_hard_or_soft_invalidated()
                for entry in entries
            )
        )

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 9))
    def execute(self, index: int) -> None:
        """Execute a statement; a Connection that finds its connection broken throws it away, and its generation too."""
        held = self.held[index % len(self.held)]
        if self.kind.is_async and held.underneath.broken and held.connection is None:
            return  # as in _end
        if held.connection is not None and (held.underneath.broken or held.underneath.closed):
            self._end(index, Held.execute, Held.close, arms=[])
        else:
            self._run(held.execute, arms=[])

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 9), arms=_arms("checkin", "reset", "invalidate", "close"))
    def give_back(self, index: int, arms: list[Arm]) -> None:
        """Check a connection in."""
        self._end(index, Held.close, arms=arms)

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 9), arms=_arms("checkin", "invalidate", "close"))
    def invalidate(self, index: int, arms: list[Arm]) -> None:
        """Throw a connection away."""
        self._end(index, Held.invalidate, Held.close, arms=arms)

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 9))
    def invalidate_softly(self, index: int) -> None:
        """Have a connection replaced when it is next checked out."""
        _, error = self._run(self.held[index % len(self.held)].soft_invalidate, arms=[])
        assert error is None
        self.maybe_stranded += self.kind.shared  # StaticPool forgets what it replaces

    @precondition(lambda self: self.held and not self.kind.shared)
    @rule(index=st.integers(0, 9))
    def detach(self, index: int) -> None:
        """Take a connection out of the pool for good."""
        held = self.held.pop(index % len(self.held))
        _, error = self._run(held.detach, arms=[])
        assert error is None
        self.leaks_returned += held.leaked
        self.detached.append(held)

    @precondition(lambda self: self.detached)
    @rule(index=st.integers(0, 9))
    def close_detached(self, index: int) -> None:
        """Close a connection that the pool no longer knows."""
        held = self.detached.pop(index % len(self.detached))
        self._run(held.close, arms=[])
        if held.underneath.broken:
            held.underneath.close()  # SQLAlchemy leaves it, because its ROLLBACK fails

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 9))
    def drop(self, index: int) -> None:
        """Forget a connection, which the garbage collector then gives back."""
        held = self.held.pop(index % len(self.held))
        self._may_go_with_its_pool(held)
        if held.leaked:
            self.leaks_returned += 1
        elif not self.kind.shared:
            self.leaks["gc"] += 1
        held.forget()
        self._settle()

    @rule(close=st.booleans(), arms=_arms("close"))
    def dispose(self, close: bool, arms: list[Arm]) -> None:
        """Dispose of the pool; what is out stays out."""
        idle = len(idle_entries(self.engine.pool))
        self._run(self.engine.dispose, close, arms=arms)
        self._settle()
        self.maybe_stranded += 0 if close else idle

    @rule(index=st.integers(0, 9))
    def break_down(self, index: int) -> None:
        """The server drops a connection, idle or held."""
        known = [held.underneath for held in self.held]
        known += [counted(entry.dbapi_connection) for entry in idle_entries(self.engine.pool)]
        if known:
            known[index % len(known)].break_down()

    @precondition(lambda self: not self.kind.shared)
    @rule()
    def grow_old(self) -> None:
        """Every idle connection passes the recycle age."""
        for entry in idle_entries(self.engine.pool):
            entry.starttime -= 2 * _DAY

    @rule(taken=st.integers(1, 3), kept=st.integers(0, 2))
    def request(self, taken: int, kept: int) -> None:
        """A request takes connections one after the other and ends with some of them still out."""

        async def endpoint() -> None:
            for number in range(taken):
                full = self._full()
                held, error = None, None
                try:
                    held = await self.driven.call(lambda: Held.take(self.engine, raw=True))
                except Exception as refusal:  # noqa: BLE001  a timeout, or a connection that broke
                    error = type(refusal)
                self._note_attempt(held, error, full=full)
                if held is not None and number < taken - kept:
                    self.held.remove(held)
                    await self.driven.call(held.close)

        out = len(self.held)
        self.driven.run_async(lambda: self.in_request(endpoint))
        if not self.kind.shared:
            for held in self.held[out:]:
                held.leaked = True
                self.leaks["request_end"] += 1
        self._settle()

    # What must hold after every step.

    @invariant()
    def the_numbers_are_those_of_the_model(self) -> None:
        """Everything that can be known at once."""
        assert internal_errors() == {}
        pool = self.books.snapshot()
        assert pool.used == len(self.held) == len(pool.holders)
        assert min(pool.used, pool.idle, pool.overflow, pool.waiters, pool.leaked) >= 0
        assert pool.waiters == 0
        assert pool.leaked == sum(held.leaked for held in self.held)
        if self.kind.queued:
            current = sum(held.pool is self.engine.pool for held in self.held)
            assert pool.overflow == max(0, current - self.size)

        checkouts = self.books.observed("dbwatch_checkout_seconds")
        assert {outcome: count for outcome, count in checkouts.items() if count} == +self.attempts
        holds = self.books.observed("dbwatch_hold_seconds")[""]
        assert holds == self.attempts["ok"] - len(self.held)
        assert self.books.total("dbwatch_checkout_timeouts_total") == self.attempts["timeout"]
        assert self.books.total("dbwatch_overflow_checkouts_total") == self.overflow_checkouts

        refused = self.books.total("dbwatch_connect_errors_total")
        assert abs(refused - self.server.refused) <= self.maybe_connect_errors

        leaks = self.books.counted("dbwatch_leaks_total")
        assert leaks["request_end"] == self.leaks["request_end"]
        assert self.leaks["gc"] <= leaks["gc"] <= self.leaks["gc"] + self.maybe_reclaimed
        assert self.books.total("dbwatch_leaks_returned_total") == self.leaks_returned

    @invariant()
    def opened_less_closed_is_what_is_open(self) -> None:
        """Against the connections themselves. A thread closes what the garbage collector gave up, a little later."""
        dbwatch.flush()
        in_pool = {held.underneath for held in self.held if not held.underneath.closed}
        for pool in list(self.pools):
            in_pool |= {counted(entry.dbapi_connection) for entry in idle_entries(pool)}
        known = in_pool | {held.underneath for held in self.detached}
        eventually(lambda: len(set(self.server.open()) - known) <= self.maybe_stranded, 0.5, every=0.001)
        stranded = len(set(self.server.open()) - known)

        opened = self.books.total("dbwatch_connections_opened_total")
        live = opened - self.books.total("dbwatch_connections_closed_total")
        assert len(in_pool) - self.maybe_closed_early <= live <= len(in_pool) + self.maybe_stranded
        if not self.kind.shared:
            idle = len(idle_entries(self.engine.pool))
            reported = self.books.snapshot().idle
            assert idle - self.maybe_closed_early <= reported <= idle + self.maybe_stranded
        if not self.maybe_stranded:
            assert stranded == 0
            failures = self.books.total("dbwatch_pre_ping_failures_total")
            assert self.books.counted("dbwatch_connections_closed_total")["pre_ping"] == failures

    def teardown(self) -> None:
        """Give everything back: all returns to 0."""
        if not hasattr(self, "driven"):
            self.server.close()  # Hypothesis may give a run up before its first step
            return
        try:
            self._give_everything_back()
        finally:
            self.server.close()
            self.driven.close()

    def _give_everything_back(self) -> None:
        while self.held:
            self._end(0, Held.close, arms=[])
        while self.detached:
            self.close_detached(0)
        self._run(self.engine.dispose, arms=[])
        self._settle()
        pool = self.books.snapshot()
        assert (pool.used, pool.idle, pool.overflow, pool.leaked, pool.holders) == (0, 0, 0, 0, ())
        self.the_numbers_are_those_of_the_model()
        opened = self.books.total("dbwatch_connections_opened_total")
        live = opened - self.books.total("dbwatch_connections_closed_total")
        assert -self.maybe_closed_early <= live <= self.maybe_stranded
