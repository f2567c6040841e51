"""What the database server allows: how many connections, and how long they may be idle.

Read once for each pool on the first connection that it opens. Only if asked for.

The server is asked by way of the driver, so that it is no statement of the app.
"""

from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from dbwatch.guard import guarded
from dbwatch.hooks.connections import pool_of

#: By dialect: connections that the server has for accounts without special rights, and the seconds after which it
#: closes an idle one, 0 for never.
_ALLOWED = {
    "postgresql": (
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true), '0')::int,"  # since PostgreSQL 16
        " extract(epoch FROM coalesce(current_setting('idle_session_timeout', true), '0')::interval)::int"  # since 14
    ),
    "mysql": "SELECT @@max_connections, @@wait_timeout",
    "mariadb": "SELECT @@max_connections, @@wait_timeout",
}

_installed = False
_wanted = False


@guarded("limits.connect")
def on_connect(connection: Any, record: Any) -> None:
    """A connection was opened: ask the server, if that has not been done."""
    watched = pool_of(record)
    if not _wanted or watched is None or watched.server_asked:
        return
    watched.server_asked = True
    statement = _ALLOWED.get(watched.attributes.get("dialect", ""))
    if statement is None:
        return
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        allows, idle_seconds = cursor.fetchone()
        watched.server_allows, watched.server_idle_seconds = int(allows), int(idle_seconds)
    finally:
        cursor.close()
        connection.rollback()  # the app finds no transaction begun


def install(*, wanted: bool) -> None:
    """Listen on every pool from the first time that it is wanted. A listener that comes under traffic may raise in the
    app, so this is done when the middleware is built.
    """
    global _installed, _wanted
    _wanted = wanted
    if wanted and not _installed:
        _installed = True
        event.listen(Pool, "connect", on_connect)
