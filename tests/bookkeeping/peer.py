"""Another tool's pool listeners that fail when told to, once before and once after dbwatch's in SQLAlchemy's order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from sqlalchemy import event
from sqlalchemy.pool import Pool

Position = Literal["first", "last"]

EVENTS = ("connect", "checkout", "checkin", "reset", "invalidate", "close")


class Interruption(BaseException):
    """Stands for KeyboardInterrupt and CancelledError: not an Exception, and the app's to see."""


class Peer:
    """The listeners. They are there all the time and do nothing until they are armed."""

    def __init__(self) -> None:
        self._armed: dict[tuple[str, Position], list[BaseException]] = {}
        #: What has failed since ``arm``, in order.
        self.failed: list[str] = []

    def arm(self, name: str, position: Position, errors: list[BaseException]) -> None:
        """Raise these errors at the next calls of one listener."""
        self._armed[name, position] = list(errors)

    def disarm(self) -> None:
        """Do nothing again."""
        self._armed.clear()
        self.failed.clear()

    def _listener(self, name: str, position: Position) -> Callable[..., None]:
        def listener(*_: Any) -> None:
            errors = self._armed.get((name, position))
            if errors:
                self.failed.append(name)
                raise errors.pop(0)

        return listener

    @contextmanager
    def listening(self) -> Iterator["Peer"]:
        """Listen to every pool of the process for the length of the block. Not while others use pools."""
        listeners = []
        for name in EVENTS:
            for position in ("first", "last"):
                listener = self._listener(name, position)
                event.listen(Pool, name, listener, insert=position == "first")
                listeners.append((name, listener))
        try:
            yield self
        finally:
            for name, listener in listeners:
                event.remove(Pool, name, listener)
