"""What runs during a hold: the dialect's methods that execute, commit, roll back and ping, wrapped and timed.

Connection events would cost an app about 14 µs for every connection, for good, even with empty listeners (2.0, 2.1);
wrapping costs a fraction of a microsecond, and only so is the end of a COMMIT seen at all. Where an override calls
``super()``, both are wrapped; only the outermost counts.
"""

import functools
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from dbwatch.context import ATTEMPT
from dbwatch.guard import guarded
from dbwatch.hooks.pool import CHECKOUT_KEY
from dbwatch.records import Checkout

_MARK = "__dbwatch_wrapper__"


def wrap_execute(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_execute(cursor, statement, parameters, context)`` or ``do_executemany``, timed."""

    @functools.wraps(original)
    def do_execute(self: Any, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> Any:
        checkout = statement_begins(cursor, context)
        if checkout is None:
            return original(self, cursor, statement, parameters, context)
        try:
            return original(self, cursor, statement, parameters, context)
        finally:
            ends(checkout, self)

    return do_execute


def wrap_execute_no_params(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_execute_no_params(cursor, statement, context)``, timed."""

    @functools.wraps(original)
    def do_execute_no_params(self: Any, cursor: Any, statement: Any, context: Any = None) -> Any:
        checkout = statement_begins(cursor, context)
        if checkout is None:
            return original(self, cursor, statement, context)
        try:
            return original(self, cursor, statement, context)
        finally:
            ends(checkout, self)

    return do_execute_no_params


def wrap_transaction_end(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_commit(dbapi_connection)`` or ``do_rollback``, timed."""

    @functools.wraps(original)
    def transaction_end(self: Any, dbapi_connection: Any) -> Any:
        checkout = transaction_ends(dbapi_connection)
        if checkout is None:
            return original(self, dbapi_connection)
        try:
            return original(self, dbapi_connection)
        finally:
            ends(checkout, self)

    return transaction_end


def wrap_ping(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_ping(dbapi_connection)``, timed as a phase of the checkout under way."""

    @functools.wraps(original)
    def do_ping(self: Any, dbapi_connection: Any) -> Any:
        started = perf_counter()
        try:
            return original(self, dbapi_connection)
        finally:
            pinged(started)

    return do_ping


@guarded("statements.begin")
def statement_begins(cursor: Any, context: Any) -> Checkout | None:
    """A statement begins: find its hold through the connection it runs on, or None."""
    if context is None:
        return None
    try:
        checkout: Checkout | None = context.root_connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001
        # The first connect initialises the dialect through an ad-hoc proxy whose info raises NotImplementedError; on
        # an invalidated connection it raises PendingRollbackError. Either way there is no hold to speak of.
        return None
    if checkout is None or checkout.cursor is cursor:
        return None
    checkout.statements += 1
    options = context.execution_options
    if options and (options.get("stream_results") or options.get("yield_per")):
        checkout.streaming = True
    _runs(checkout, cursor)
    return checkout


@guarded("statements.transaction")
def transaction_ends(dbapi_connection: Any) -> Checkout | None:
    """A COMMIT or ROLLBACK begins. SQLAlchemy passes the pool's proxy, so the record's ``info`` is at hand."""
    try:
        checkout: Checkout | None = dbapi_connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001  as above
        return None
    if checkout is None or checkout.cursor is dbapi_connection:
        return None
    _runs(checkout, dbapi_connection)
    return checkout


def _runs(checkout: Checkout, what: object) -> None:
    # Two at once happen when concurrent tasks share one session; the hold executes while any of them runs.
    if checkout.running == 0:
        checkout.running_since = perf_counter()
    checkout.running += 1
    checkout.cursor = what


@guarded("statements.end")
def ends(checkout: Checkout, dialect: Any) -> None:
    """The statement, COMMIT or ROLLBACK is over, however it ended."""
    checkout.running -= 1
    if checkout.running:
        return
    seconds = perf_counter() - checkout.running_since
    checkout.cursor = None
    checkout.executing += seconds
    request = checkout.request
    if request is not None and not dialect.is_async and get_ident() == request.thread:
        checkout.blocked += seconds


@guarded("statements.ping")
def pinged(started: float) -> None:
    """A pre-ping is over. The outermost of nested wrappers ends last and has the whole time."""
    checkout = ATTEMPT.get()
    if checkout is not None:
        checkout.ping = max(checkout.ping or 0.0, perf_counter() - started)


_WRAPPERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "do_execute": wrap_execute,
    "do_executemany": wrap_execute,
    "do_execute_no_params": wrap_execute_no_params,
    "do_commit": wrap_transaction_end,
    "do_rollback": wrap_transaction_end,
    "do_ping": wrap_ping,
}


def wrap_dialect(kind: type) -> None:
    """Wrap what a dialect class and its bases define themselves, once each."""
    for owner in kind.__mro__:
        for name, wrap in _WRAPPERS.items():
            method = owner.__dict__.get(name)
            if callable(method) and issubclass(owner, DefaultDialect) and not hasattr(method, _MARK):
                wrapped = wrap(method)
                setattr(wrapped, _MARK, True)
                setattr(owner, name, wrapped)


def install() -> None:
    """Wrap the base dialect and every dialect class loaded so far; others are wrapped when their engine is made."""
    found = [DefaultDialect]
    while found:
        kind = found.pop()
        wrap_dialect(kind)
        found.extend(kind.__subclasses__())
