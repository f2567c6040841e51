"""Records as the hooks make them, made by hand: for tests of what is done with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from time import perf_counter
from typing import Any
from weakref import ref

from dbwatch.context import _THREAD_TOKEN, REQUEST
from dbwatch.ledger import Ledger
from dbwatch.records import Request, WatchedPool


def a_pool(name: str = "shop", timeout: float = 30.0) -> WatchedPool:
    """A pool of five connections, of which nothing is known."""
    return WatchedPool(ref(Ledger), None, name, size=5, timeout=timeout, is_async=False, shared=False)


def a_request(route: str = "/items", **noted: Any) -> Request:
    """A request that begins now, with whatever else is noted of it."""
    request = Request({"type": "http", "path": "/"}, "GET", None, get_ident(), perf_counter())
    for name, value in {"route": route, **noted}.items():
        setattr(request, name, value)
    return request


@contextmanager
def working_for(request: Request) -> Iterator[Request]:
    """Let this thread work for a request, as in a call of its own."""
    tokens = REQUEST.set(request), _THREAD_TOKEN.set(None)
    try:
        yield request
    finally:
        REQUEST.reset(tokens[0])
        _THREAD_TOKEN.reset(tokens[1])
