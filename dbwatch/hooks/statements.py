"""What runs during a hold: the dialect's methods that execute, commit, roll back and ping, wrapped and timed.

Connection events would cost an app about 14 µs for every connection, for good, even with empty listeners (2.0, 2.1);
wrapping costs a fraction of a microsecond, and only so is the end of a COMMIT seen at all. Where an override calls
``super()``, both are wrapped; only the outermost counts.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from threading import get_ident
from time import perf_counter
from typing import Any
from weakref import ref

from sqlalchemy.engine.default import DefaultDialect

from dbwatch import judgement
from dbwatch.callsites import call_site
from dbwatch.context import ATTEMPT, REQUEST
from dbwatch.guard import guarded
from dbwatch.hooks.pool import CHECKOUT_KEY
from dbwatch.records import Checkout, Request
from dbwatch.settings import THRESHOLDS
from dbwatch.sqltext import StatementKind, has_an_effect, kind_of, page_size, savepoint_name

#: A SELECT that runs again after this many seconds is polled, not repeated.
POLL_SECONDS = 0.1
#: Different statements of one request that are counted; a request with more starts counting anew.
REMEMBERED_STATEMENTS = 200

#: A SELECT with so many parameters, or with a list for one, asks for many rows at once.
BATCH_PARAMETERS = 10
#: A SELECT with a LIMIT of so many goes through a table page by page.
PAGE_ROWS = 100

_MARK = "__dbwatch_wrapper__"
_WRITES = (StatementKind.WRITE, StatementKind.INSERT, StatementKind.INSERT_WITHIN)
#: Dialects whose server commits a transaction when a definition is changed.
_COMMITS_AT_DEFINITIONS = ("mysql", "mariadb", "oracle")


def wrap_execute(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_execute(cursor, statement, parameters, context)`` or ``do_executemany``, timed."""

    @functools.wraps(original)
    def do_execute(self: Any, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> Any:
        checkout = statement_begins(cursor, statement, context)
        if checkout is None:
            return original(self, cursor, statement, parameters, context)
        try:
            result = original(self, cursor, statement, parameters, context)
        except BaseException as error:
            failed(checkout, self, error)
            raise
        statement_succeeded(checkout, self, cursor, statement, context)
        return result

    return do_execute


def wrap_execute_no_params(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_execute_no_params(cursor, statement, context)``, timed."""

    @functools.wraps(original)
    def do_execute_no_params(self: Any, cursor: Any, statement: Any, context: Any = None) -> Any:
        checkout = statement_begins(cursor, statement, context)
        if checkout is None:
            return original(self, cursor, statement, context)
        try:
            result = original(self, cursor, statement, context)
        except BaseException as error:
            failed(checkout, self, error)
            raise
        statement_succeeded(checkout, self, cursor, statement, context)
        return result

    return do_execute_no_params


def wrap_commit(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_commit(dbapi_connection)``, timed."""

    @functools.wraps(original)
    def do_commit(self: Any, dbapi_connection: Any) -> Any:
        checkout = transaction_ends(dbapi_connection)
        if checkout is None:
            return original(self, dbapi_connection)
        try:
            result = original(self, dbapi_connection)
        except BaseException as error:
            failed(checkout, self, error)
            raise
        committed(checkout, self)
        return result

    return do_commit


def wrap_rollback(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_rollback(dbapi_connection)``, timed."""

    @functools.wraps(original)
    def do_rollback(self: Any, dbapi_connection: Any) -> Any:
        checkout = transaction_ends(dbapi_connection)
        if checkout is None:
            return original(self, dbapi_connection)
        try:
            return original(self, dbapi_connection)
        finally:
            rolled_back(checkout, self)

    return do_rollback


def wrap_ping(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_ping(dbapi_connection)``, timed as a phase of the checkout under way."""

    @functools.wraps(original)
    def do_ping(self: Any, dbapi_connection: Any) -> Any:
        started = ping_begins()
        if started is None:
            return original(self, dbapi_connection)
        try:
            return original(self, dbapi_connection)
        finally:
            pinged(started)

    return do_ping


def wrap_twophase(original: Callable[..., Any]) -> Callable[..., Any]:
    """``do_prepare_twophase(connection, xid)`` or ``do_commit_twophase``, noted; psycopg's run no statement."""

    @functools.wraps(original)
    def do_twophase(self: Any, connection: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, connection, *args, **kwargs)
        settled(connection)
        return result

    return do_twophase


@guarded("statements.begin")
def statement_begins(cursor: Any, statement: str, context: Any) -> Checkout | None:
    """A statement begins: find its hold through the connection it runs on, or None."""
    if context is None:
        return None
    try:
        checkout: Checkout | None = context.root_connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001
        # The first connect initialises the dialect through an ad-hoc proxy whose info raises NotImplementedError; on
        # an invalidated connection it raises PendingRollbackError. Either way there is no hold to speak of.
        return None
    # A detached connection keeps a copy of its info: what it runs is no part of the hold, which has ended.
    if checkout is None or checkout.running_what is cursor or checkout.returned_at is not None:
        return None
    checkout.statements += 1
    checkout.last_statement = statement
    options = context.execution_options
    if options and (options.get("stream_results") or options.get("yield_per")):
        checkout.streaming = True
    request = REQUEST.get()
    if request is not checkout.request:
        used_by(checkout, request)
    if request is not None and _is_answering(request) and kind_of(statement) is StatementKind.READ:
        _count_repeats(request, checkout, statement, context, perf_counter())
    _runs(checkout, cursor)
    return checkout


@guarded("statements.transaction")
def transaction_ends(dbapi_connection: Any) -> Checkout | None:
    """A COMMIT or ROLLBACK begins. SQLAlchemy passes the pool's proxy, so the record's ``info`` is at hand."""
    try:
        checkout: Checkout | None = dbapi_connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001  as above
        return None
    if checkout is None or checkout.running_what is dbapi_connection or checkout.returned_at is not None:
        return None
    _runs(checkout, dbapi_connection)
    return checkout


def _runs(checkout: Checkout, what: object) -> None:
    if checkout.running == 0:
        checkout.running_since = perf_counter()
    elif not checkout.pool.shared and checkout.request is not None:
        # A second one while one is in flight: two tasks have one session. The hold executes while any of them runs.
        judgement.shared(
            checkout.request,
            checkout,
            call_site(sys._getframe(2)),
            "A statement began on this connection while another was still running on it.",
        )
    checkout.running += 1
    checkout.running_what = what


def used_by(checkout: Checkout, request: Request | None) -> None:
    """A statement runs for another request than the one that took the connection.

    Nobody's connection (taken in the lifespan, by a test) may serve one request after the other; two at once may not
    share it. A request that has ended speaks for the task it has spawned, not for itself.
    """
    if request is None or request.ended_at is not None or checkout.pool.shared:
        return
    if checkout.request is not None:
        how = "A statement ran on a connection that another request had taken."
    else:
        before, checkout.user = checkout.user, ref(request)
        other = None if before is None else before()
        if other is None or other is request or other.ended_at is not None:
            return
        how = "Two requests ran statements on one connection, the second before the first had ended."
    judgement.shared(request, checkout, call_site(sys._getframe(2)), how)


def _is_answering(request: Request) -> bool:
    """True until the response starts: the same SELECT again after that is a stream that polls, or work of its own."""
    return request.response_started_at is None and request.ended_at is None


def _count_repeats(request: Request, checkout: Checkout, statement: str, context: Any, now: float) -> None:
    """Count runs of the same SELECT that follow each other closely; one that comes back after a pause is a poll."""
    counts = request.repeated
    if counts is None:
        counts = request.repeated = {}
    times, last = counts.get(statement, (0, now))
    times = times + 1 if now - last < POLL_SECONDS else 1
    if times == 1 and len(counts) >= REMEMBERED_STATEMENTS:
        counts.clear()
    counts[statement] = (times, now)
    if times == THRESHOLDS.repeated_statements and not _asks_for_many(statement, context):
        judgement.repeated(request, checkout, statement, call_site(sys._getframe(2)), times)


def _asks_for_many(statement: str, context: Any) -> bool:
    """True if the statement fetches a batch, as selectinload() does for each 500 parents, or a page of many rows, or
    no rows at all: that is no N+1.
    """
    given = context.parameters
    parameters = given[0] if given else ()
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    if len(values) >= BATCH_PARAMETERS or any(isinstance(value, list | tuple) for value in values):
        return True
    return page_size(statement, parameters) >= PAGE_ROWS or has_an_effect(statement)


@guarded("statements.failed")
def failed(checkout: Checkout, dialect: Any, error: BaseException) -> None:
    """The statement or COMMIT is over and failed. A cancelled one keeps the driver busy for longer, unseen."""
    _over(checkout, dialect)
    if not isinstance(error, Exception):
        checkout.interrupted = True


def _over(checkout: Checkout, dialect: Any) -> None:
    checkout.running -= 1
    if checkout.running:
        return
    seconds = perf_counter() - checkout.running_since
    checkout.running_what = None
    checkout.executing += seconds
    request = checkout.request
    if request is None or dialect.is_async or get_ident() != request.thread:
        return
    # Nobody's line: the garbage collector rolls back in whichever thread it runs.
    if checkout.proxy is not None and checkout.proxy() is not None:
        checkout.blocked += seconds
        if request.blocked_at is None:
            request.blocked_at = (checkout.pool.name, call_site(sys._getframe(1)))
            request.notable = True


@guarded("statements.succeeded")
def statement_succeeded(checkout: Checkout, dialect: Any, cursor: Any, statement: str, context: Any) -> None:
    """The statement is over and did not fail: what did it do to the transaction?"""
    _over(checkout, dialect)
    kind = kind_of(statement)
    if kind is StatementKind.READ or kind is StatementKind.OTHER:
        return
    if kind in _WRITES:
        if _changed_rows(kind, dialect, cursor) and not _commits_itself(checkout, dialect, context):
            if not checkout.writes:
                checkout.write_site = call_site(sys._getframe(1))
            checkout.writes += 1
    elif kind is StatementKind.SAVEPOINT:
        if checkout.savepoints is None:
            checkout.savepoints = {}
        checkout.savepoints[savepoint_name(statement)] = checkout.writes
    elif kind is StatementKind.ROLLBACK_TO:
        if checkout.savepoints is not None:
            checkout.writes = checkout.savepoints.get(savepoint_name(statement), checkout.writes)
    elif kind is not StatementKind.DEFINITION or dialect.name in _COMMITS_AT_DEFINITIONS:
        _begins_anew(checkout)  # a COMMIT, PREPARE TRANSACTION or ROLLBACK as text, or what commits by itself


def _changed_rows(kind: StatementKind, dialect: Any, cursor: Any) -> bool:
    """True if the statement changed rows for certain: by the driver's count, or by what it is where there is none.

    asyncpg counts no rows of executemany() (-1). sqlite3 knows the count of a statement with RETURNING only after its
    rows were fetched and says 0 until then. Rows of a SELECT around an INSERT are not those inserted.
    """
    if kind is StatementKind.INSERT_WITHIN:
        return True
    rows = cursor.rowcount
    if rows > 0 or kind is StatementKind.WRITE:
        return bool(rows > 0)
    return bool(rows < 0 or (dialect.name == "sqlite" and cursor.description is not None))


def _commits_itself(checkout: Checkout, dialect: Any, context: Any) -> bool:
    """True if the driver is in autocommit mode, or if that cannot be told: then nothing is lost by a rollback."""
    if checkout.autocommit is None:
        try:
            connection = context.root_connection.connection.dbapi_connection
            checkout.autocommit = bool(dialect.detect_autocommit_setting(connection))
        except (NotImplementedError, AttributeError):
            checkout.autocommit = True
    return checkout.autocommit


@guarded("statements.committed")
def committed(checkout: Checkout, dialect: Any) -> None:
    """A COMMIT went through."""
    _over(checkout, dialect)
    _begins_anew(checkout)
    checkout.rolled_back = 0


@guarded("statements.settled")
def settled(connection: Any) -> None:
    """A two-phase transaction was prepared or committed: its rows outlive the connection."""
    try:
        checkout: Checkout | None = connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001  as above
        return
    if checkout is not None:
        _begins_anew(checkout)


def _begins_anew(checkout: Checkout) -> None:
    checkout.writes = 0
    checkout.savepoints = None
    checkout.autocommit = None  # only now may the app switch it on or off


@guarded("statements.rolled_back")
def rolled_back(checkout: Checkout, dialect: Any) -> None:
    """A ROLLBACK is over. Whether the app wished it is known when the connection goes back."""
    _over(checkout, dialect)
    checkout.rolled_back = checkout.writes
    _begins_anew(checkout)


@guarded("statements.ping_begins")
def ping_begins() -> float:
    """A pre-ping begins: when."""
    return perf_counter()


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
    "do_commit": wrap_commit,
    "do_rollback": wrap_rollback,
    "do_ping": wrap_ping,
    "do_prepare_twophase": wrap_twophase,
    "do_commit_twophase": wrap_twophase,
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
