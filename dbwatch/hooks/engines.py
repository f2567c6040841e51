"""Engines as they are made: their name, where in the app's code they were created, and their dialect class.

``Engine.__init__`` is the one place that ``create_engine``, ``create_async_engine`` and ``create_pool_from_url`` all
pass, and that ``execution_options()`` and ``dispose()`` do not.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import util
from sqlalchemy.engine import Engine

from dbwatch import judgement
from dbwatch.callsites import call_site
from dbwatch.context import REQUEST
from dbwatch.guard import guarded
from dbwatch.hooks.statements import wrap_dialect
from dbwatch.ledger import LEDGER
from dbwatch.pools import POOLS
from dbwatch.records import Request, Site, WatchedPool


def wrap_init(original: Callable[..., None]) -> Callable[..., None]:
    """``Engine.__init__`` with the new engine noted afterwards.

    ``create_engine`` reads from the code of this function which of its keywords are the engine's (``echo``,
    ``execution_options``, ...) and refuses all others: the wrapper must have the original's very arguments.
    """

    def noted(original: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        created(self)

    return util.decorator(noted)(original)


@guarded("engines.created")
def created(engine: Engine) -> None:
    """An engine was made."""
    wrap_dialect(type(engine.dialect))
    site = call_site(sys._getframe(2))
    POOLS.add_engine(engine, site[0] if site else None)
    request = REQUEST.get()
    if request is not None and site:
        _compare(request, engine, site)


def _options(engine: Engine) -> int:
    """What tells one engine from another besides its URL: execution options, and ``connect_args``, such as a tenant's
    schema. Those are found in the closure of the function that connects (2.0 and 2.1).
    """
    creator = getattr(engine.pool, "_creator", None)
    given = inspect.getclosurevars(creator).nonlocals if inspect.isfunction(creator) else {}
    return hash((_plain(engine.get_execution_options()), _plain(given)))


def _plain(value: Any) -> Any:
    """A value as something that compares equal if it was made anew: other objects count by their type alone."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(key), _plain(part)) for key, part in value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return repr(value) if isinstance(value, str | bytes | int | float | None) else type(value).__name__


class _Creation:
    """Engines made at one line for one URL."""

    __slots__ = ("count", "first", "latest")

    def __init__(self, first: Request, latest: WatchedPool) -> None:
        self.first = first
        self.latest = latest
        self.count = 1


#: By code line and URL; bounded, oldest forgotten first.
_creations: dict[tuple[Any, ...], _Creation] = {}
_REMEMBERED = 500


def _compare(request: Request, engine: Engine, site: Site) -> None:
    """A second engine from the same line in a later request proves the mistake, if the one before served nobody but
    the request that made it. Requests that overlap prove nothing: several first requests may race to create one global
    engine. Another URL from the same line is another tenant.
    """
    watched = POOLS.of(engine.pool)
    watched.creator = request.number
    key = (site[0], hash(engine.url), _options(engine))
    known = _creations.get(key)
    LEDGER.fold()  # so that it is known whom the engine before has served
    if known is None or not known.latest.creator:
        if known is None and len(_creations) >= _REMEMBERED:
            del _creations[next(iter(_creations))]
        _creations[key] = _Creation(request, watched)
        return
    known.count += 1
    known.latest = watched
    ended = known.first.ended_at
    if ended is not None and request.started_at > ended:
        judgement.engine_again(request, watched.name, site, known.count)


def forget_creations() -> None:
    """Compare with no engine made so far: between tests, each of which may make the app, and its engine, anew."""
    _creations.clear()


@guarded("engines.scan")
def scan() -> None:
    """Find the engines that were made before the hooks were installed."""
    POOLS.scan()
    for engine, _known in POOLS.engines():
        wrap_dialect(type(engine.dialect))


def install() -> None:
    """Wrap ``Engine.__init__`` and scan once."""
    Engine.__init__ = wrap_init(Engine.__init__)  # type: ignore[method-assign]
    scan()
