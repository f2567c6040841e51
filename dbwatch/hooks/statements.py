"""What runs during a hold: the dialect's methods that execute, commit, roll back and ping, wrapped and timed.

Connection events would cost an app about 14 µs for every connection, for good, even with empty listeners (2.0, 2.1);
wrapping costs a fraction of a microsecond, and only so is the end of a COMMIT seen at all. Where an override calls
``super()``, both are wrapped; only the outermost counts.
"""

import functools
import sys
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from dbwatch.callsites import call_site
from dbwatch.context import ATTEMPT, REQUEST
from dbwatch.guard import guarded
from dbwatch.hooks.driver import commits_by_itself
from dbwatch.hooks.pool import CHECKOUT_KEY
from dbwatch.hooks.repeats import count_again
from dbwatch.hooks.sharing import runs_beside_another, used_by
from dbwatch.records import Changes, Checkout
from dbwatch.sqltext import KNOWN, OTHER, READ, StatementKind, kind_of, savepoint_name

#: Different statements of one request that are counted; a request with more starts counting anew.
REMEMBERED_STATEMENTS = 200

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
            failed(checkout, error)
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
            failed(checkout, error)
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
            failed(checkout, error)
            raise
        committed(checkout)
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
            rolled_back(checkout)

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
def statement_begins(cursor: Any, statement: str, context: Any) -> Checkout | None:  # noqa: C901, PLR0912  one call, not four
    """A statement begins: find its hold through the connection it runs on, or None."""
    try:
        # What ``context.root_connection.info`` returns five calls later; the names are private (2.0 and 2.1).
        checkout: Checkout | None = context._dbapi_connection._connection_record.info.get(CHECKOUT_KEY)  # noqa: SLF001
    except Exception:  # noqa: BLE001
        checkout = _checkout_of(context)
    # A detached connection keeps a copy of its info: what it runs is no part of the hold, which has ended.
    if checkout is None or checkout.returned_at is not None:
        return None
    if checkout.running_what is not None and not runs_beside_another(checkout, cursor, _proxy_of(context)):
        return None
    request = REQUEST.get()
    if request is not checkout.request and not used_by(checkout, request, _proxy_of(context)):
        return None
    now = perf_counter()
    checkout.statements += 1
    checkout.last_statement = statement
    if "stream_results" in context.execution_options:  # set by yield_per as well
        checkout.streaming = checkout.streaming or bool(context.execution_options["stream_results"])
    if request is not None:
        ran = request.ran
        if isinstance(ran, dict):
            if statement in ran:
                count_again(request, checkout, ran, context, now)
            else:
                if len(ran) >= REMEMBERED_STATEMENTS:
                    ran.clear()
                ran[statement] = now
        elif ran == "":
            request.ran = statement
        elif ran is not None:
            # Not one with the branch above: each further statement would pay for it.
            ran = request.ran = {ran: 0.0}
            if statement in ran:
                count_again(request, checkout, ran, context, now)
            else:
                ran[statement] = now
    if checkout.running_what is None:
        checkout.running_since = now
    checkout.running_what = cursor
    return checkout


def _checkout_of(context: Any) -> Checkout | None:
    """By public names. The first connect initialises the dialect through an ad-hoc proxy whose info raises
    NotImplementedError; on an invalidated connection it raises PendingRollbackError. Either way there is no hold to
    speak of.
    """
    try:
        checkout: Checkout | None = context.root_connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001
        return None
    return checkout


@guarded("statements.transaction")
def transaction_ends(dbapi_connection: Any) -> Checkout | None:
    """A COMMIT or ROLLBACK begins. SQLAlchemy passes the pool's proxy, so the record's ``info`` is at hand."""
    try:
        checkout: Checkout | None = dbapi_connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001  as above
        return None
    if checkout is None or checkout.returned_at is not None:
        return None
    if checkout.running_what is None:
        checkout.running_since = perf_counter()
    elif not runs_beside_another(checkout, dbapi_connection, dbapi_connection):
        return None
    checkout.running_what = dbapi_connection
    return checkout


def _proxy_of(context: Any) -> Any:
    """The pool's proxy that a statement runs through, or None if SQLAlchemy has renamed it (2.0 and 2.1)."""
    return getattr(context, "_dbapi_connection", None)


@guarded("statements.failed")
def failed(checkout: Checkout, error: BaseException) -> None:
    """The statement or COMMIT is over and failed. A cancelled one keeps the driver busy for longer, unseen."""
    _over(checkout)
    if not isinstance(error, Exception):
        checkout.interrupted = True


def _over(checkout: Checkout) -> None:
    if checkout.also_running:
        checkout.also_running -= 1
        return
    now = perf_counter()
    seconds = now - checkout.running_since
    checkout.running_what = None
    checkout.executing += seconds
    checkout.running_since = now  # until the next begins: since when nothing runs
    if not checkout.pool.is_async:
        _blocked_loop(checkout, seconds)


def _blocked_loop(checkout: Checkout, seconds: float) -> None:
    request = checkout.request
    if request is None or get_ident() != request.thread:
        return
    # Nobody's line: the garbage collector rolls back in whichever thread it runs.
    if checkout.proxy is not None and checkout.proxy() is not None:
        checkout.blocked += seconds
        if request.blocked_at is None:
            request.blocked_at = (checkout.pool.name, call_site(sys._getframe(2)))
            request.notable = True


@guarded("statements.succeeded")
def statement_succeeded(checkout: Checkout, dialect: Any, cursor: Any, statement: str, context: Any) -> None:
    """The statement is over and did not fail: what did it do to the transaction?"""
    _over(checkout)
    kind = KNOWN.get(statement) or kind_of(statement)
    if kind is READ:
        return
    if checkout.request is not None:
        checkout.request.writes += 1
    if kind is OTHER:
        return
    changes = checkout.changes
    if changes is None:
        changes = checkout.changes = Changes()
    if kind in _WRITES:
        if _changed_rows(kind, dialect, cursor) and not _commits_itself(changes, dialect, context):
            if not changes.writes:
                changes.site = call_site(sys._getframe(1))
            changes.writes += 1
    else:
        _control_transaction(changes, kind, dialect, statement)


def _control_transaction(changes: Changes, kind: StatementKind, dialect: Any, statement: str) -> None:
    if kind is StatementKind.SAVEPOINT:
        changes.savepoints[savepoint_name(statement)] = changes.writes
    elif kind is StatementKind.ROLLBACK_TO:
        changes.writes = changes.savepoints.get(savepoint_name(statement), changes.writes)
    elif kind is not StatementKind.DEFINITION or dialect.name in _COMMITS_AT_DEFINITIONS:
        changes.begin_anew()  # a COMMIT, PREPARE TRANSACTION or ROLLBACK as text, or what commits by itself


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


def _commits_itself(changes: Changes, dialect: Any, context: Any) -> bool:
    """True if the driver is in autocommit mode, or if that cannot be told: then nothing is lost by a rollback."""
    if changes.autocommit is None:
        try:
            connection = context.root_connection.connection.dbapi_connection
            changes.autocommit = commits_by_itself(dialect, connection)
        except (NotImplementedError, AttributeError):
            changes.autocommit = True
    return changes.autocommit


@guarded("statements.committed")
def committed(checkout: Checkout) -> None:
    """A COMMIT went through."""
    _over(checkout)
    if checkout.changes is not None:
        checkout.changes.begin_anew()
        checkout.changes.rolled_back = 0


@guarded("statements.settled")
def settled(connection: Any) -> None:
    """A two-phase transaction was prepared or committed: its rows outlive the connection."""
    try:
        checkout: Checkout | None = connection.info.get(CHECKOUT_KEY)
    except Exception:  # noqa: BLE001  as above
        return
    if checkout is not None and checkout.changes is not None:
        checkout.changes.begin_anew()


@guarded("statements.rolled_back")
def rolled_back(checkout: Checkout) -> None:
    """A ROLLBACK is over. Whether the app wished it is known when the connection goes back."""
    _over(checkout)
    changes = checkout.changes
    if changes is not None:
        changes.rolled_back = changes.writes
        changes.begin_anew()


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
