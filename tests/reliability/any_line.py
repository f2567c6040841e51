"""Something happens at any line of dbwatch's own code: pieces of work that pass as much of it as possible, and a way to
stop at each of its lines.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, QueuePool, create_engine, exc, text

import dbwatch
from dbwatch import runtime
from dbwatch.outputs.live.report import Reporter
from tests.bookkeeping.counted import CountedServer
from tests.bookkeeping.requests import Endpoint, RequestRunner

#: At most so many lines of a piece of work are tried, evenly spread.
LINES = 100
_OURS = str(Path(dbwatch.__file__).parent)


@contextmanager
def at_line(number: int, call: Callable[[], object]) -> Iterator[list[int]]:
    """Call something when this thread has reached so many lines of dbwatch; yields how many it has reached so far."""
    reached = [0]

    def in_frame(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            reached[0] += 1
            if reached[0] == number:
                call()
        return in_frame

    def begins(frame: FrameType, _event: str, _argument: Any) -> Any:
        return in_frame if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    sys.settrace(begins)
    try:
        yield reached
    finally:
        sys.settrace(before)


def leave_to_the_collector(connection: object) -> None:
    """Leave something behind that only the garbage collector can find."""
    cycle: list[object] = [connection]
    cycle.append(cycle)


class Work:
    """Pieces of work that pass as much of dbwatch as possible, each with a connection or two of one engine."""

    def __init__(self, server: CountedServer, in_request: RequestRunner, engine: Engine | None = None) -> None:
        arguments = {"factory": server.connect, "check_same_thread": False}
        options: dict[str, Any] = {"pool_size": 2, "max_overflow": 1, "pool_timeout": 0.0, "pool_pre_ping": True}
        self.engine = engine or create_engine("sqlite://", poolclass=QueuePool, connect_args=arguments, **options)
        self.requests = 0
        self.server = server
        self.left: Connection | None = None
        self._in_request = in_request
        self._runner = asyncio.Runner()
        self._registry = CollectorRegistry()
        self._reporter = Reporter(runtime._LIVE_SOURCE, 1, 0.0)
        self._seconds = 0
        runtime.exposition(self._registry)

    def leak(self) -> None:
        """Leave a connection behind that only the garbage collector can find."""
        leave_to_the_collector(self.engine.connect())

    def _serve(self, page: Endpoint) -> None:
        self.requests += 1
        self._runner.run(self._in_request(page))

    def request(self) -> None:
        async def page() -> None:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
                connection.commit()

        self._serve(page)

    def leaking_request(self) -> None:
        async def page() -> None:
            self.leak()

        self._serve(page)

    def careless_request(self) -> None:
        """A request that leaves its connection in ``left``, to be given back by hand."""

        async def page() -> None:
            connection = self.engine.connect()
            connection.execute(text("SELECT 1"))
            self.left = connection

        self._serve(page)

    def timeout(self) -> None:
        held = []
        try:
            while True:
                held.append(self.engine.connect())
        except exc.TimeoutError:
            pass
        for connection in held:
            connection.close()

    def broken(self) -> None:
        with self.engine.connect() as connection:
            proxy: Any = connection.connection
            proxy.driver_connection.break_down()
        self.engine.connect().close()

    def thrown_away(self) -> None:
        with self.engine.connect() as connection:
            connection.invalidate()
        with self.engine.connect() as connection:
            connection.detach()

    def disposed(self) -> None:
        self.engine.dispose()
        self.engine.connect().close()

    def new_engine(self) -> None:
        engine = create_engine("sqlite://")
        engine.connect().close()
        engine.dispose()

    def scrape(self) -> None:
        list(self._registry.collect())
        dbwatch.findings()

    def reports(self) -> None:
        """What is read by a person: the live page, the advice, a readiness probe."""
        self._seconds += 1
        self._reporter.sample(self._seconds)
        self._reporter.report(self._seconds)
        dbwatch.advice()
        dbwatch.readiness()

    def give_back(self) -> None:
        """Give back by hand what a request has left."""
        left, self.left = self.left, None
        if left is not None:
            left.close()

    def close(self) -> None:
        self.engine.dispose()
        self._runner.close()


def lines_of(do: Callable[[], None]) -> range:
    """Numbers of lines of dbwatch that a piece of work reaches, evenly spread over all of them."""
    do()
    with at_line(0, lambda: None) as reached:
        do()
    assert reached[0] > 20
    return range(1, reached[0], max(1, reached[0] // LINES))
