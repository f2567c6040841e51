"""The database servers that the fault matrix maltreats, behind one set of words."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import Any, Literal, Protocol

import psycopg
import pymysql

from demo_app.postgres import EmbeddedPostgres, PostgresError
from tests.servers.mariadb import MariaDB
from tests.servers.waiting import eventually

How = Literal["fast", "immediate", "kill"]

_TABLES = ("CREATE TABLE visit (id int)", "CREATE TABLE gate (id int)", "INSERT INTO gate VALUES (1)")


class Victim(Protocol):
    """A server, and what may be done to it from a connection of our own that passes no proxy."""

    port: int

    def restart(self, how: How) -> None:
        """Stop the server in one of several ways, and start it again with the same port and data."""

    def stop(self, how: How) -> None:
        """Stop the server."""

    def start(self) -> None:
        """Start it again."""

    def connect(self) -> Any:
        """A connection of the driver, in autocommit mode."""

    def sessions(self) -> list[int]:
        """The sessions of all others."""

    def end(self, session: int) -> None:
        """End a session."""

    def cancel(self, session: int) -> None:
        """Cancel the statement of a session."""

    def close_gate(self, connection: Any) -> None:
        """Keep the page ``blocked`` waiting in the middle of its statement, as long as a connection lives."""

    def blocked(self) -> int:
        """How many sessions wait for the gate."""

    def full(self) -> AbstractContextManager[None]:
        """Take every connection that the server allows."""


def ask(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement, none if it has none."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


class Postgres:
    """PostgreSQL."""

    def __init__(self) -> None:
        self.server = EmbeddedPostgres(settings={"max_connections": "60"})
        self.port = self.server.port

    def connect(self) -> Any:
        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True)

    def restart(self, how: How) -> None:
        self.stop(how)
        self.start()

    def stop(self, how: How) -> None:
        if how != "kill":
            self.server.stop(how)
            return
        process = self.server._server
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def start(self) -> None:
        def started() -> bool:
            try:
                self.server.start()
            except PostgresError:  # The orphans of a killed server have not all noticed yet.
                return False
            return True

        eventually(started, 60.0)

    def sessions(self) -> list[int]:
        with closing(self.connect()) as connection:
            statement = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            return [pid for (pid,) in ask(connection, f"{statement} AND pid <> pg_backend_pid()")]

    def end(self, session: int) -> None:
        with closing(self.connect()) as connection:
            ask(connection, f"SELECT pg_terminate_backend({session}, 10000)")

    def cancel(self, session: int) -> None:
        with closing(self.connect()) as connection:
            ask(connection, f"SELECT pg_cancel_backend({session})")

    def close_gate(self, connection: Any) -> None:
        ask(connection, "SELECT pg_advisory_lock(1)")

    def blocked(self) -> int:
        with closing(self.connect()) as connection:
            return int(ask(connection, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0][0])

    def full(self) -> AbstractContextManager[None]:
        return _taken(self, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")


class Maria:
    """MariaDB."""

    def __init__(self) -> None:
        self.server = MariaDB()
        self.port = self.server.port

    def connect(self) -> Any:
        return pymysql.connect(host="127.0.0.1", port=self.port, user="root", database="test", autocommit=True)

    def restart(self, how: How) -> None:
        self.stop(how)
        self.start()

    def stop(self, how: How) -> None:
        self.server.stop({"fast": signal.SIGTERM, "immediate": signal.SIGABRT, "kill": signal.SIGKILL}[how])

    def start(self) -> None:
        self.server.start()

    def sessions(self) -> list[int]:
        with closing(self.connect()) as connection:
            statement = "SELECT id FROM information_schema.processlist WHERE user = 'root'"
            return [session for (session,) in ask(connection, f"{statement} AND id <> connection_id()")]

    def end(self, session: int) -> None:
        with closing(self.connect()) as connection:
            ask(connection, f"KILL {session}")

    def cancel(self, session: int) -> None:
        with closing(self.connect()) as connection:
            ask(connection, f"KILL QUERY {session}")

    def close_gate(self, connection: Any) -> None:
        ask(connection, "BEGIN")
        ask(connection, "SELECT id FROM gate FOR UPDATE")

    def blocked(self) -> int:
        time.sleep(0.15)  # The server refreshes this table no more often than every 0.1 s.
        with closing(self.connect()) as connection:
            statement = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            return int(ask(connection, statement)[0][0])

    @contextmanager
    def full(self) -> Iterator[None]:
        """Ten connections are the least that the server can be told to allow."""
        with closing(self.connect()) as connection:
            [(allowed,)] = ask(connection, "SELECT @@max_connections")
            ask(connection, "SET GLOBAL max_connections = 10")
            try:
                with _taken(self, "SELECT count(*) FROM information_schema.processlist WHERE user = 'root'"):
                    yield
            finally:
                ask(connection, f"SET GLOBAL max_connections = {allowed}")


def furnish(victim: Victim) -> None:
    """Create the tables of the app."""
    with closing(victim.connect()) as connection:
        for statement in _TABLES:
            ask(connection, statement)


@contextmanager
def gate_closed(victim: Victim) -> Iterator[None]:
    """Keep the page ``blocked`` waiting for the length of the block; the server may be gone by its end."""
    connection = victim.connect()
    try:
        victim.close_gate(connection)
        yield
    finally:
        connection.close()


@contextmanager
def _taken(victim: Victim, count: str) -> Iterator[None]:
    with closing(victim.connect()) as watching:
        [(before,)] = ask(watching, count)
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(closing(victim.connect()))
                except (psycopg.OperationalError, pymysql.OperationalError):
                    break
            yield
        eventually(lambda: ask(watching, count)[0][0] <= before)
