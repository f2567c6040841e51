"""SQLite connections that are counted where they are really opened and closed, below SQLAlchemy."""

import sqlite3
from typing import Any


class CountedConnection(sqlite3.Connection):
    """A SQLite connection that knows whether its client has closed it."""

    closed = False
    broken = False

    def close(self) -> None:
        """Close it, as SQLAlchemy does."""
        self.closed = True
        super().close()

    def break_down(self) -> None:
        """Lose it behind the client's back: whatever is asked of it next fails as a disconnect."""
        self.broken = True
        super().close()


class CountedServer:
    """Opens the connections, and keeps every one, so that none is closed by being forgotten."""

    def __init__(self) -> None:
        self.opened: list[CountedConnection] = []
        #: How many attempts to connect will be refused.
        self.refusals = 0
        self.refused = 0

    def connect(self, *arguments: Any, **keywords: Any) -> CountedConnection:
        """A ``factory`` for sqlite3.connect(). Raises sqlite3.OperationalError if told to refuse."""
        if self.refusals:
            self.refusals -= 1
            self.refused += 1
            raise sqlite3.OperationalError("refused")
        connection = CountedConnection(*arguments, **keywords)
        self.opened.append(connection)
        return connection

    def open(self) -> list[CountedConnection]:
        """The connections that nobody has closed."""
        return [connection for connection in self.opened if not connection.closed]

    def close(self) -> None:
        """Close what is left, also what has been lost track of."""
        for connection in self.open():
            connection.close()
