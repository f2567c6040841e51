"""The process: what is installed once, and the functions that programs and tests call."""

import os
import time
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine

from dbwatch import advising, guard, hooks, judgement, leaks
from dbwatch.accumulators import Accumulators
from dbwatch.callsites import APP_CODE
from dbwatch.context import REQUEST
from dbwatch.facts import Finding, PoolAdvice, PoolSnapshot, Remark, RequestTotals, Waiter
from dbwatch.findings import FOUND
from dbwatch.hooks.pool import sweep
from dbwatch.idling import WATCH
from dbwatch.ledger import LEDGER
from dbwatch.outputs import prometheus
from dbwatch.outputs.live import sampler
from dbwatch.outputs.live.page import LivePage
from dbwatch.outputs.live.report import Source as LiveSource
from dbwatch.outputs.live.state import merge
from dbwatch.outputs.logs import FINDING_LOG
from dbwatch.outputs.series import Series, Source, pool_gauges, route_connections
from dbwatch.pools import POOLS
from dbwatch.records import NO_REQUEST, Request
from dbwatch.routes import route_of
from dbwatch.settings import THRESHOLDS, Settings, build
from dbwatch.telemetry import TELEMETRY
from dbwatch.version import __version__

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dbwatch.outputs.opentelemetry import Traces

_attached = False


def install() -> None:
    """Watch every SQLAlchemy engine of this process. For processes without a web app: workers and scripts.

    The middleware does it by itself. Calling it again changes nothing. It never needs to be undone: the hooks cost
    nothing to speak of, and listeners that are removed under traffic would raise in the app. With ``DBWATCH_ENABLED``
    off in the environment it does nothing.

    Raises:
        ConfigurationError: an environment variable ``DBWATCH_*`` has a value that is not allowed.
    """
    if not _attached:
        chosen = build({})
        if chosen.enabled:
            configure(chosen)


def configure(settings: Settings) -> None:
    """Attach to SQLAlchemy, and use the process-wide options of some settings from now on."""
    global _attached
    THRESHOLDS.take(settings)
    APP_CODE.set_root(settings.app_root)
    if settings.on_finding is not None:
        FOUND.subscribe(settings.on_finding)
    FOUND.subscribe(FINDING_LOG.write)
    hooks.install(server_limits=settings.server_limits)
    if settings.opentelemetry:
        join_opentelemetry()
    if not _attached:
        _attached = True
        LEDGER.at_first_checkout(WATCH.start)
        advising.advise_at_first_checkout()
        if settings.opentelemetry:  # an app may configure it after it has been built, or in each worker
            LEDGER.at_first_checkout(join_opentelemetry)
        if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
            os.register_at_fork(after_in_child=_start_anew)


def watch(engine: "Engine | AsyncEngine", name: str) -> None:
    """Name an engine: its pools appear as ``pool="name"`` in metrics and reports.

    Args:
        engine: a SQLAlchemy ``Engine`` or ``AsyncEngine``.
        name: what to call it, for example ``"primary"``. At most 20 names get series of their own.

    Raises:
        TypeError: ``engine`` is no engine.
        ValueError: ``name`` is empty, or no string.
    """
    sync_engine = getattr(engine, "sync_engine", engine)
    if not isinstance(sync_engine, Engine):
        raise TypeError(f"dbwatch.watch() takes a SQLAlchemy Engine or AsyncEngine, not {type(engine).__name__}.")
    chosen = _pool_name(name)
    install()
    POOLS.add_engine(sync_engine, name=chosen)


def _pool_name(name: Any) -> str:
    if isinstance(name, str) and name.strip():
        return name.strip()
    raise ValueError(f"dbwatch.watch() takes a name like 'primary', not {name!r}.")


def flush() -> None:
    """Add up everything that has happened so far. A scrape and :func:`snapshot` do it by themselves.

    With several processes it is also written for the others: worth a call where a process is about to end without
    Python's exit handlers, as Celery's children do.
    """
    _fold()
    prometheus.write_for_others()


def _fold() -> None:
    for watched in POOLS.watched():
        sweep(watched)
        LEDGER.post(judgement.judge_open, watched)
    LEDGER.fold()


def findings() -> tuple[Finding, ...]:
    """The last findings of this process, oldest first, at most 500."""
    _fold()
    return FOUND.recent()


def settle(timeout: float = 1.0) -> bool:
    """Wait at most ``timeout`` seconds until no leak verdict is pending; True if none is. For tests and scripts.

    It blocks the calling thread; in a coroutine use ``await asyncio.to_thread(dbwatch.settle, 1.0)``.
    """
    return leaks.settle(timeout)


def snapshot() -> tuple[PoolSnapshot, ...]:
    """Every pool of this process now, with who holds its connections."""
    _fold()
    return POOLS.snapshot()


def current_request() -> RequestTotals | None:
    """What the request that runs now has done with the pools so far; None outside a watched request."""
    request = REQUEST.get()
    if request is None:
        return None
    return totals(request)


def totals(request: Request) -> RequestTotals:
    """What a request adds up to, holds still open included up to now."""
    LEDGER.try_fold()
    now = perf_counter()
    out = list(request.open)
    return RequestTotals(
        method=request.method,
        route=route_of(request),
        age_seconds=now - request.started_at,
        checkouts=request.checkouts,
        statements=request.statements + sum(checkout.statements for checkout in out),
        checkout_seconds=request.checkout_seconds,
        wait_seconds=request.wait,
        hold_seconds=request.hold_seconds + sum(checkout.hold_seconds(now) for checkout in out),
        executing_seconds=request.executing + sum(checkout.executing_seconds(now) for checkout in out),
        open_connections=len(out),
    )


def _accumulators() -> Accumulators:
    _fold()
    return LEDGER.accumulators


def _gauges() -> dict[str, Series]:
    snapshots = POOLS.snapshot()
    gauges = pool_gauges(snapshots)
    gauges["dbwatch_route_connections"] = route_connections(snapshots, LEDGER.routes(), LEDGER.bound)
    gauges["dbwatch_build_info"] = {(__version__,): 1}
    return gauges


_SOURCE = Source(_accumulators, _gauges)


def join_opentelemetry() -> None:
    """Use the OpenTelemetry providers that the app has configured by now."""
    TELEMETRY.join(_SOURCE)


def say_on_span(request: Request, traces: "Traces") -> None:
    """Say on the span of a request what the request has done so far, while the span is being recorded."""
    if request.tried and request.span.span.is_recording():
        LEDGER.fold()
        traces.say(request, totals(request))


def exposition(registry: Any) -> prometheus.Exposition:
    """The metrics page for a registry; registers our collector there.

    Raises:
        ConfigurationError: the registry has our names already, or the multiprocess directory cannot be used.
    """
    page = prometheus.Exposition(registry, _SOURCE)
    if page.writes_files:
        LEDGER.at_first_checkout(page.start)
    return page


def serve_metrics(port: int, address: str = "127.0.0.1", registry: Any = None) -> int:
    """Serve the metrics on a port of their own, for a worker or a script without a web app. Installs dbwatch as well.

    The page is served from a daemon thread until the process ends. With ``PROMETHEUS_MULTIPROC_DIR`` it shows the sums
    of all processes that write there, so the parent of forked workers can serve it for them.

    Args:
        port: where to listen; 0 takes a free port.
        address: the interface to listen on; ``"0.0.0.0"`` for all, as in a container.
        registry: the Prometheus registry to show, with all that is in it; None is the default one.

    Returns:
        The port.

    Raises:
        ConfigurationError: the registry has our names already, or the multiprocess directory cannot be used.
        OSError: nothing can listen there, as when the port is taken.
    """
    install()
    return exposition(registry).serve(port, address)


def live_page(settings: Settings) -> LivePage | None:
    """The live page that the settings ask for, None without one.

    Raises:
        ConfigurationError: the state directory cannot be used.
    """
    if settings.dashboard is None:
        return None
    page = LivePage(settings.dashboard, settings.dashboard_auth, settings.state_dir, _LIVE_SOURCE)
    LEDGER.at_first_checkout(page.start)
    return page


def _waiters() -> dict[str, tuple[Waiter, ...]]:
    """The checkouts waiting now by pool name, longest first."""
    now = perf_counter()
    waiters: dict[str, tuple[Waiter, ...]] = {}
    for watched in POOLS.watched():
        for checkout in list(watched.waiting):
            request = checkout.request
            waiter = Waiter(
                method=NO_REQUEST if request is None else request.method,
                route=NO_REQUEST if request is None else route_of(request),
                waited_seconds=now - (checkout.wait_started or now),
            )
            waiters[watched.name] = (*waiters.get(watched.name, ()), waiter)
    return waiters


_LIVE_SOURCE = LiveSource(
    snapshot, _waiters, lambda: LEDGER.accumulators, FOUND.recent, FOUND.returned, advising.surroundings
)


def advice() -> tuple[PoolAdvice, ...]:
    """What to change about each pool of this process: its size, by the load so far, and its risky settings.

    The size comes from samples of used + waiters, one a second over ten minutes. The live page takes them from the
    start; without one, the first call of this function begins to, and the action is ``wait`` for two minutes.
    """
    install()
    state = merge([sampler.sampler_of_this_process(_LIVE_SOURCE).report()], time.time())
    return tuple(
        PoolAdvice(
            pool=pool["name"],
            action=pool["advice"]["action"],
            text=pool["advice"]["text"],
            arithmetic=pool["advice"]["arithmetic"],
            size=pool["advice"]["size"],
            limit=pool["advice"]["limit"],
            remarks=tuple(Remark(**remark) for remark in pool["remarks"]),
        )
        for pool in state["pools"]
    )


def _start_anew() -> None:
    guard.forget()
    LEDGER.start_anew()
    leaks.start_anew()
    FOUND.clear()
    FINDING_LOG.forget()
    POOLS.start_anew()
    prometheus.start_anew()
    sampler.start_anew()
