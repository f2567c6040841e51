"""The sampler: one daemon thread that takes a sample each second and, while somebody looks, makes the state to show.

It does all the work of the page, so that a viewer costs the event loop no more than handing on ready bytes. It sleeps
to the full second: workers then write at the same time, and their samples fall on the same seconds.
"""

import asyncio
import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from dbwatch.guard import guarded, note
from dbwatch.outputs.live.document import WorkerState
from dbwatch.outputs.live.history import SAMPLES
from dbwatch.outputs.live.report import Reporter, Source
from dbwatch.outputs.live.state import merge
from dbwatch.outputs.live.workers import WATCHED_SECONDS, StateDirectory, open_directory

#: Seconds after the full second at which the other workers' states are read: by then they have written them.
READ_AFTER = 0.15
#: Seconds within which a state is published; the first one may have to wait for all workers to be asked.
ANSWER_SECONDS = 10.0
#: Seconds of history in an update; a viewer that has missed more gets all of it.
UPDATE_HISTORY = 15


@dataclass(frozen=True, slots=True)
class Published:
    """The state of one second as JSON: with the newest part of the history, and with all of it if a viewer wants it."""

    number: int
    update: bytes
    full: bytes | None


@dataclass(frozen=True, slots=True)
class _Viewer:
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Published]"
    wants_all: bool


class Sampler:
    """Samples, shares and publishes the state of this process."""

    def __init__(self, source: Source, state_dir: str | None) -> None:
        self._source = source
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._reporter = Reporter(source, 0, 0.0)
        #: Held while the history is written or read.
        self._sampling = threading.Lock()
        self._pid = 0
        self._asked_at = -WATCHED_SECONDS
        self._waiting: list[_Viewer] = []
        self._waited_for_others = False
        self._directory: StateDirectory | None = None

    def start(self) -> None:
        """Start the thread, once in each process; a forked child has none and starts its own."""
        pid = os.getpid()
        if self._pid == pid:
            return
        with self._lock:
            if self._pid != pid:
                self._pid = pid
                self._reporter = Reporter(self._source, pid, time.time())
                self._thread = threading.Thread(target=self._run, name="dbwatch-live", daemon=True)
                self._thread.start()

    def start_anew(self) -> None:
        """In a forked child: the lock and the viewers are the parent's."""
        self._lock = threading.Lock()
        self._sampling = threading.Lock()
        self._thread = None
        self._pid = 0
        self._waiting = []

    def stopped(self) -> None:
        """The server is shutting down: take this worker's file away."""
        if self._directory is not None:
            self._directory.remove(os.getpid())

    def report(self) -> WorkerState:
        """What this process says of itself now. The first call begins to sample."""
        self.start()
        now = time.time()
        self._sample(now)  # an engine may have been made since the last second
        return self._report(now)

    def _sample(self, at: float) -> None:
        with self._sampling:
            self._reporter.sample(int(at))

    def _report(self, at: float) -> WorkerState:
        with self._sampling:
            return self._reporter.report(at)

    async def next(self, *, wants_all: bool) -> Published:
        """The next state to be published, with all of the history if that is wanted. Asking for it is what makes the
        workers write.

        Raises:
            TimeoutError: the sampler has failed; the log says why.
        """
        self._asked_at = time.monotonic()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Published] = loop.create_future()
        with self._lock:
            self._waiting.append(_Viewer(loop, future, wants_all))
        async with asyncio.timeout(ANSWER_SECONDS):
            return await future

    def _is_asked(self) -> bool:
        return time.monotonic() - self._asked_at < WATCHED_SECONDS

    def _run(self) -> None:
        self._directory = self._open()
        while self._thread is threading.current_thread():
            now = time.time()
            time.sleep(1.0 - now % 1.0)
            self._tick()

    @guarded("live.directory")
    def _open(self) -> StateDirectory | None:
        directory = None if self._state_dir is None else open_directory(self._state_dir)
        if directory is not None:
            directory.announce(self._pid)
            directory.clear()
        return directory

    @guarded("live.sample")
    def _tick(self) -> None:
        at = time.time()
        self._sample(at)
        asked = self._is_asked()
        if asked or (self._directory is not None and self._directory.is_watched()):
            mine = self._report(at)
            others = self._exchange(mine, asked=asked)
            if asked and others is not None:
                self._publish(mine, others)
        else:
            self._waited_for_others = False

    def _exchange(self, mine: WorkerState, *, asked: bool) -> list[WorkerState] | None:
        """Write our state for the others and read theirs; None if they have just been asked and not all answered."""
        directory = self._directory
        if directory is None or not directory.has_others(self._pid):
            return []
        try:
            directory.write(mine)
            if not asked:
                return None
            directory.touch()
            time.sleep(READ_AFTER)
            others, silent = directory.others(self._pid)
        except OSError as error:
            note("live.exchange", error)
            return []
        if silent and not self._waited_for_others:
            self._waited_for_others = True
            return None
        return others

    def _publish(self, mine: WorkerState, others: list[WorkerState]) -> None:
        workers = sorted([mine, *others], key=lambda worker: (worker["started_at"], worker["pid"]))
        at = time.time()

        def encode(last: int) -> bytes:
            return json.dumps(merge(workers, at, last), separators=(",", ":"), allow_nan=False).encode()

        with self._lock:
            waiting, self._waiting = self._waiting, []
        full = encode(SAMPLES) if any(viewer.wants_all for viewer in waiting) else None
        published = Published(int(mine["at"]), encode(UPDATE_HISTORY), full)
        for viewer in waiting:
            with suppress(RuntimeError):  # the loop is closed: its server has stopped
                viewer.loop.call_soon_threadsafe(_resolve, viewer.future, published)


_samplers: dict[str | None, Sampler] = {}


def sampler_of_this_process(source: Source) -> Sampler:
    """The sampler that there is already, for a live page; else one that shows its state to no other process."""
    return next(iter(_samplers.values()), None) or sampler_for(source, None)


def sampler_for(source: Source, state_dir: str | None) -> Sampler:
    """The sampler of this process for a state directory: several apps in one process share it."""
    known = _samplers.get(state_dir)
    if known is None:
        known = _samplers[state_dir] = Sampler(source, state_dir)
    return known


def start_anew() -> None:
    """In a forked child."""
    for sampler in _samplers.values():
        sampler.start_anew()


def _resolve(future: "asyncio.Future[Published]", published: Published) -> None:
    if not future.done():
        future.set_result(published)
