"""Which pools there are, what they are called, and what a snapshot of them says.

An engine is known from its construction or from the scan at installation; a pool object from its engine or from its
first checkout. Nothing here keeps an engine or a pool alive.
"""

import gc
import math
from collections.abc import Callable, Iterator
from threading import RLock
from time import perf_counter
from types import CodeType
from typing import Any, TypeVar
from weakref import ref

from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import NullPool, Pool, SingletonThreadPool, StaticPool

from dbwatch.facts import PoolSnapshot
from dbwatch.holders import holder_of
from dbwatch.ledger import LEDGER, Ledger
from dbwatch.records import OTHER, WatchedPool, writable

T = TypeVar("T")

#: Names of pools that get series of their own.
POOL_LIMIT = 20
#: Where a pool object carries its WatchedPool. An attribute is found in a tenth of the time a WeakKeyDictionary needs.
POOL_ATTRIBUTE = "_dbwatch_pool"

#: Where an engine was created: (code object, line) of the app's innermost line, or None for engines found by the scan.
CreationSite = tuple[CodeType, int] | None


class WatchedEngine:
    """An engine, by weak reference, and the name its pools go by."""

    __slots__ = ("engine", "name", "site")

    def __init__(self, engine: "ref[Engine]", name: str, site: CreationSite) -> None:
        self.engine = engine
        self.name = name
        self.site = site


class Pools:
    """The registry of engines and pools of this process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = RLock()
        self._engines: dict[int, WatchedEngine] = {}
        self._pools: dict[int, WatchedPool] = {}
        # Names given to unnamed engines: by base name, the sites in order of first use.
        self._sites: dict[str, list[CreationSite | int]] = {}
        self._names: set[str] = set()
        self._when_gone: list[Callable[[WatchedPool], object]] = []

    def when_gone(self, call: Callable[[WatchedPool], object]) -> None:
        """Call ``call`` with every pool whose pool object is garbage collected, in the middle of that collection: it
        must not raise, and may only write attributes and post facts.
        """
        self._when_gone.append(call)

    # Learning of engines and pools.

    def add_engine(self, engine: Engine, site: CreationSite = None, name: str = "") -> None:
        """Register an engine under ``name``, else under its pool's logging name, else under its URL's."""
        with self._lock:
            known = self._engines.get(id(engine))
            if known is not None and known.engine() is engine:
                if name:
                    self._give_up(known)
                    known.name = self._admit(name)
                    for pool in self._pools_of(engine):
                        pool.name = known.name
                        self._ledger.post(self._ledger.watch_pool, pool)
                return
            chosen = self._admit(name or self._automatic_name(engine, site))
            reference = ref(engine, self._engine_gone(id(engine)))
            self._engines[id(engine)] = WatchedEngine(reference, chosen, site)
            self._watch(engine.pool, chosen, engine)

    def of(self, pool: Pool) -> WatchedPool:
        """The watched pool of a pool object, registered on first sight."""
        watched: WatchedPool | None = pool.__dict__.get(POOL_ATTRIBUTE)
        if watched is not None:
            return watched
        with self._lock:
            for engine, known in self.engines():
                if engine.pool is pool:
                    return self._watch(pool, known.name, engine)
            dialect = getattr(pool, "_dialect", None)
            for engine, known in self.engines():
                # The engine was disposed of between asking for its pool and asking the pool for a connection.
                if engine.dialect is dialect:
                    return self._watch(pool, known.name, engine)
            name = getattr(pool, "logging_name", None) or type(pool).__name__
            return self._watch(pool, self._admit(name), None)

    def scan(self) -> None:
        """Find the engines and pools that were made before dbwatch was installed. Looks at every object once."""
        for engine in _instances(Engine):
            if "pool" in engine.__dict__:
                self.add_engine(engine)
        for pool in _instances(Pool):
            # A pool that never got further than its constructor has no dialect yet and is nobody's.
            if "_dialect" in pool.__dict__:
                self.of(pool)

    def engines(self) -> Iterator[tuple[Engine, WatchedEngine]]:
        """The engines that are alive."""
        for known in list(self._engines.values()):
            engine = known.engine()
            if engine is not None:
                yield engine, known

    def _watch(self, pool: Pool, name: str, engine: Engine | None) -> WatchedPool:
        existing: WatchedPool | None = pool.__dict__.get(POOL_ATTRIBUTE)
        if existing is not None:
            return existing
        dialect = engine.dialect if engine is not None else getattr(pool, "_dialect", None)
        shared = isinstance(pool, StaticPool | SingletonThreadPool)
        watched = WatchedPool(
            ref(pool, self._pool_gone(id(pool))),
            None if engine is None else ref(engine),
            name,
            size=math.inf if shared or isinstance(pool, NullPool) else pool_size(pool),
            timeout=pool_timeout(pool),
            is_async=bool(getattr(dialect, "is_async", False)),
            shared=shared,
        )
        watched.live = _opened_before(pool)
        watched.out_before = max(0, watched.live - _checked_in(pool))
        watched.attributes = _attributes(pool, engine)
        self._pools[id(pool)] = watched
        pool.__dict__[POOL_ATTRIBUTE] = watched
        self._ledger.post(self._ledger.watch_pool, watched)
        return watched

    def _pools_of(self, engine: Engine) -> Iterator[WatchedPool]:
        watched = engine.pool.__dict__.get(POOL_ATTRIBUTE)
        if watched is not None:
            yield watched

    def _engine_gone(self, key: int) -> Any:
        def forget(reference: "ref[Engine]") -> None:
            # May run inside a garbage collection: no lock. A new engine may have taken the same id meanwhile.
            known = self._engines.get(key)
            if known is not None and known.engine is reference:
                self._engines.pop(key, None)

        return forget

    def _pool_gone(self, key: int) -> Any:
        def forget(reference: "ref[Pool]") -> None:
            watched = self._pools.get(key)
            if watched is not None and watched.pool is reference:
                self._pools.pop(key, None)
                for call in self._when_gone:
                    call(watched)
                self._ledger.post(self._ledger.forget_pool, watched)

        return forget

    # Names.

    def _automatic_name(self, engine: Engine, site: CreationSite) -> str:
        logging_name = engine.pool.logging_name if "logging_name" in engine.pool.__dict__ else None
        if logging_name:
            return str(logging_name)
        base = url_name(engine.url)
        if base not in self._sites and len(self._sites) >= POOL_LIMIT:
            return OTHER
        sites = self._sites.setdefault(base, [])
        # Engines found by the scan have no site: each counts as one of its own.
        key: CreationSite | int = site if site is not None else len(sites)
        if key not in sites:
            if len(sites) >= POOL_LIMIT:
                return OTHER
            sites.append(key)
        number = sites.index(key)
        return base if number == 0 else f"{base}#{number + 1}"

    def _admit(self, given: str) -> str:
        name = writable(given)
        if name in self._names:
            return name
        if name == OTHER or len(self._names) >= POOL_LIMIT:
            self._ledger.post(_count_folded, self._ledger)
            return OTHER
        self._names.add(name)
        return name

    def _give_up(self, renamed: WatchedEngine) -> None:
        """Free the place of the name an engine went by until now, unless somebody else goes by it, or series of that
        name exist: an app that names all its engines needs one place for each, not two.
        """
        engines = [known for known in list(self._engines.values()) if known is not renamed]
        others = any(known.name == renamed.name for known in engines)
        pools = any(pool.name == renamed.name for pool in self.watched() if _engine_of(pool) is not renamed.engine())
        if not others and not pools and not self._ledger.has_pool(renamed.name):
            self._names.discard(renamed.name)

    # Snapshots.

    def snapshot(self) -> tuple[PoolSnapshot, ...]:
        """Every pool now, by name. Pools nobody has used yet are included."""
        for engine, _known in self.engines():
            self.of(engine.pool)
        states: dict[str, list[WatchedPool]] = {}
        for watched in self.watched():
            states.setdefault(watched.name, []).append(watched)
        now = perf_counter()
        return tuple(_snapshot(name, watched, now) for name, watched in sorted(states.items()))

    def watched(self) -> list[WatchedPool]:
        """Every pool object known, disposed ones with a connection still out included."""
        return list(self._pools.values())

    def start_anew(self) -> None:
        """In a forked child: the parent's checkouts are not ours, and its lock may be held by a thread we lack."""
        self._lock = RLock()
        for watched in self.watched():  # a list: one may go in a garbage collection meanwhile
            watched.open.clear()
            watched.waiting.clear()
            watched.forget_peaks()
            pool = watched.pool()
            watched.live = 0 if pool is None else _opened_before(pool)
            self._ledger.post(self._ledger.watch_pool, watched)


POOLS = Pools(LEDGER)


def _instances(kind: type[T]) -> list[T]:
    """Every instance of a class and its subclasses that the garbage collector knows.

    An object refers to its class. ``gc.get_objects()`` would refer to every object of the process for a moment, and a
    tuple that another thread is just making from a generator must have one reference only: ``SystemError: bad argument
    to internal function`` would meet the app there (CPython 3.11 to 3.13).
    """
    kinds = [kind]
    for known in kinds:
        kinds += [sub for sub in known.__subclasses__() if sub not in kinds]
    # type() and not isinstance(), which would ask lazy proxies of other libraries for their __class__.
    return [found for found in gc.get_referrers(*kinds) if issubclass(type(found), kind)]


def url_name(url: URL) -> str:
    """``driver://host:port/database``, with neither user nor password nor query."""
    host = url.host or ""
    if host and url.port is not None:
        host = f"{host}:{url.port}"
    return f"{url.drivername}://{host}/{url.database or ''}"


def _count_folded(ledger: Ledger) -> None:
    ledger.accumulators.counter("dbwatch_label_overflow_total", "pool").value += 1


def _opened_before(pool: Pool) -> int:
    """Connections that were open before the pool was watched: free ones, and those the app has out."""
    return max(0, _places(pool) or 0)


def pool_size(pool: Pool) -> int:
    """Connections the pool keeps: ``size()`` of queue pools, 0 of NullPool, 1 of StaticPool and AssertionPool."""
    size = getattr(pool, "size", None)
    if callable(size):
        return int(size())
    if isinstance(size, int):  # SingletonThreadPool
        return size
    return 0 if isinstance(pool, NullPool) else 1


def pool_limit(pool: Pool) -> float:
    """Connections the pool may have out at once, infinite where nothing limits them.

    ``_max_overflow`` is private and has no public accessor (SQLAlchemy 2.0 and 2.1); without it, the limit is taken
    to be the size.
    """
    if isinstance(pool, NullPool | SingletonThreadPool):
        return math.inf
    overflow = getattr(pool, "_max_overflow", 0)
    if overflow == -1:
        return math.inf
    return pool_size(pool) + overflow


def pool_timeout(pool: Pool) -> float:
    """Seconds a checkout may wait: 0 where the pool has no queue, infinite where it waits for ever."""
    timeout = getattr(pool, "timeout", None)
    if not callable(timeout):
        return 0.0
    seconds = timeout()
    return math.inf if seconds is None else float(seconds)


def _attributes(pool: Pool, engine: Engine | None) -> dict[str, str]:
    server = ""
    if engine is not None:
        server = engine.url.host or ""
        if server and engine.url.port is not None:
            server = f"{server}:{engine.url.port}"
        server = writable(server) or "(local)"
    pre_ping = getattr(pool, "_pre_ping", None)
    return {
        "pool_class": type(pool).__name__,
        "dialect": engine.dialect.name if engine is not None else "",
        # A dialect need not have one, and some of those that people write themselves have not.
        "driver": getattr(engine.dialect, "driver", "") if engine is not None else "",
        "server": server,
        "pre_ping": "unknown" if pre_ping is None else str(bool(pre_ping)).lower(),
        "recycle": str(getattr(pool, "_recycle", "unknown")),
    }


def _engine_of(watched: WatchedPool) -> Engine | None:
    return None if watched.engine is None else watched.engine()


def current_pool(watched: WatchedPool) -> Pool | None:
    """The pool object, unless its engine is gone or has been given another pool by ``dispose()``."""
    pool: Pool | None = watched.pool()
    if watched.engine is None or pool is None:
        return pool
    engine = watched.engine()
    return pool if engine is not None and engine.pool is pool else None


def _snapshot(name: str, states: list[WatchedPool], now: float) -> PoolSnapshot:
    out, waiting, current = [], [], []
    idle = overflow = 0
    for watched in states:
        held = [checkout for checkout in list(watched.open) if not watched.shared or checkout.is_open()]
        out += held
        waiting += list(watched.waiting)
        pool = current_pool(watched)
        if pool is not None:
            current.append(pool)
            idle += _idle(pool, watched, len(held))
            overflow += int(max(0, len(held) - watched.size))
    return PoolSnapshot(
        name=name,
        used=len(out),
        idle=idle,
        size=sum(map(pool_size, current)),
        limit=sum(map(pool_limit, current)),
        overflow=overflow,
        waiters=len(waiting),
        leaked=sum(checkout.leaked for checkout in out),
        used_peak=sum(watched.used_peak(now) for watched in states),
        oldest_waiter_seconds=max((now - (c.wait_started or now) for c in waiting), default=0.0),
        oldest_checkout_seconds=max((c.hold_seconds(now) for c in out), default=0.0),
        timeout_seconds=max(map(pool_timeout, current), default=0.0),
        attributes=states[-1].attributes,
        holders=tuple(holder_of(checkout, now) for checkout in out),
        server_allows=max((w.server_allows for w in states if w.server_allows is not None), default=None),
        server_idle_seconds=max(
            (w.server_idle_seconds for w in states if w.server_idle_seconds is not None), default=None
        ),
    )


def _idle(pool: Pool, watched: WatchedPool, used: int) -> int:
    """Open and not with the app, one that is being tested before use included: what was opened less what was closed
    less what is out. No more than the pool has places for, so that a connection that was closed without an event
    cannot make it drift; the places alone would also count those whose connection was thrown away.
    """
    free = watched.live - used
    places = _places(pool)
    if places is not None:
        free = min(free, places - used)
    if watched.out_before:
        free = min(free, _checked_in(pool))
    return max(0, free)


def _checked_in(pool: Pool) -> int:
    checkedin = getattr(pool, "checkedin", None)
    return int(checkedin()) if callable(checkedin) else 0


def _places(pool: Pool) -> int | None:
    """Entries of a queue pool, free and out; None of any other pool."""
    checkedin, checkedout = getattr(pool, "checkedin", None), getattr(pool, "checkedout", None)
    if not callable(checkedin) or not callable(checkedout):
        return None
    return int(checkedin()) + int(checkedout())
