"""Engines as they are made: their name, where in the app's code they were created, and their dialect class.

``Engine.__init__`` is the one place that ``create_engine``, ``create_async_engine`` and ``create_pool_from_url`` all
pass, and that ``execution_options()`` and ``dispose()`` do not.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Engine

from dbwatch.callsites import call_site
from dbwatch.guard import guarded
from dbwatch.hooks.statements import wrap_dialect
from dbwatch.pools import POOLS


def wrap_init(original: Callable[..., None]) -> Callable[..., None]:
    """``Engine.__init__`` with the new engine noted afterwards."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        created(self)

    return __init__


@guarded("engines.created")
def created(engine: Engine) -> None:
    """An engine was made."""
    wrap_dialect(type(engine.dialect))
    site = call_site(sys._getframe(2), limit=1)
    POOLS.add_engine(engine, site[0] if site else None)


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
