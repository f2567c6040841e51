"""The thread that looks at open holds: what one look after the other makes of them."""

import asyncio
import math
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from contextvars import Context
from pathlib import Path

import pytest
from sqlalchemy import Connection, QueuePool, StaticPool, create_engine, text

from dbwatch import idling
from dbwatch.idling import LATE, WATCH, Watch, look
from dbwatch.records import Checkout, Idling, Request
from dbwatch.settings import THRESHOLDS
from tests.core.made import a_request, working_for
from tests.servers.waiting import eventually

#: As long as everybody looks, with the threshold as it is.
PAUSE = 0.1


def stop(watch: Watch) -> None:
    """Stop looking; a thread that sleeps would look once more."""
    thread, watch._thread = watch._thread, None
    if thread is not None:
        thread.join(20.0)
        assert not thread.is_alive()


@pytest.fixture
def request_() -> Iterator[Request]:
    with working_for(a_request()) as request:
        yield request


@pytest.fixture
def connections(request_: Request, tmp_path: Path) -> Iterator[list[Connection]]:
    """Two connections that the request holds, while nobody but the test looks at them."""
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", poolclass=QueuePool)
    with ExitStack() as held:
        taken = [held.enter_context(engine.connect()) for _ in range(2)]
        stop(WATCH)
        yield taken
    WATCH.start()
    engine.dispose()


def seen_of(checkout: Checkout) -> Idling:
    assert checkout.idling is not None
    return checkout.idling


class Looks:
    """What one thread that looks says of each look: seconds since the last, and whether it comes late."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watch = Watch()
        self.made: list[tuple[float, bool]] = []
        monkeypatch.setattr(idling, "look", self._look)

    def _look(self, passed: float, late: bool) -> None:
        if threading.current_thread() is self.watch._thread:  # the one of the process looks as well
            self.made.append((passed, late))


def test_looks_are_made_until_another_thread_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    began = time.perf_counter()
    looks.watch.start()
    eventually(lambda: any(not late for _, late in looks.made))
    assert all(PAUSE <= passed <= time.perf_counter() - began for passed, _ in looks.made)
    first = looks.watch._thread
    assert first is not None
    looks.watch.start()
    first.join(20.0)
    assert not first.is_alive()
    stop(looks.watch)


def test_a_look_is_late_if_the_pause_before_it_was_much_longer_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(LATE * 1.25 * seconds))
    looks.watch.start()
    eventually(lambda: len(looks.made) >= 2, every=0.2)
    stop(looks.watch)
    assert all(late for _, late in looks.made)


def test_a_hold_is_idle_from_one_look_to_the_next_if_nothing_ran_between(
    connections: list[Connection], request_: Request
) -> None:
    hold, other = request_.open
    look(PAUSE, False)
    assert hold.idling is None, "it has run nothing so far"
    connections[0].execute(text("SELECT 1"))
    look(PAUSE, False)
    idling = seen_of(hold)
    assert (idling.gaps, idling.seen, idling.excused) == (1, 0.0, 0.0)
    look(PAUSE / 2, False)
    look(PAUSE * 3, False)  # what is beyond a pause has kept the look itself from coming
    assert (idling.gaps, idling.seen, idling.excused) == (1, PAUSE * 1.5, 0.0)
    connections[0].execute(text("SELECT 1"))
    look(PAUSE, False)
    assert (idling.gaps, idling.seen, idling.excused) == (2, PAUSE * 1.5, 0.0)
    assert other.idling is None


def test_the_line_is_noted_when_half_of_the_threshold_is_over(connections: list[Connection], request_: Request) -> None:
    hold = request_.open[0]
    connections[0].execute(text("SELECT 1"))
    look(PAUSE, False)
    for _ in range(math.ceil(THRESHOLDS.idle_hold_seconds / 2 / PAUSE) - 1):
        look(PAUSE, False)
        assert seen_of(hold).site == ()
    look(PAUSE, False)
    ((code, _line),) = seen_of(hold).site[:1]
    assert code.co_name == "test_the_line_is_noted_when_half_of_the_threshold_is_over"


def test_time_in_which_looks_come_late_or_sql_runs_elsewhere_is_excused(
    connections: list[Connection], request_: Request
) -> None:
    hold, other = request_.open
    connections[0].execute(text("SELECT 1"))
    look(PAUSE, False)
    look(2.5, True)
    assert (seen_of(hold).seen, seen_of(hold).excused) == (0.0, 2.5)
    other.running_what = self_running = object()
    look(PAUSE, False)
    assert (seen_of(hold).seen, seen_of(hold).excused) == (0.0, 2.5 + PAUSE)
    other.running_what, hold.running_what = None, self_running
    look(PAUSE, False)
    assert (seen_of(hold).seen, seen_of(hold).excused) == (0.0, 2.5 + PAUSE)
    hold.running_what = None
    look(PAUSE, False)
    assert (seen_of(hold).seen, seen_of(hold).excused) == (PAUSE, 2.5 + PAUSE)


def test_time_in_which_the_request_waits_for_another_connection_is_excused(
    connections: list[Connection], request_: Request
) -> None:
    hold, other = request_.open
    assert request_.attempt is other
    connections[0].execute(text("SELECT 1"))
    look(PAUSE, False)
    look(PAUSE, False)
    assert (seen_of(hold).seen, seen_of(hold).excused) == (PAUSE, 0.0)
    request_.attempt = Checkout(hold.pool, request_, time.perf_counter())
    look(PAUSE, False)
    assert (seen_of(hold).seen, seen_of(hold).excused) == (PAUSE, PAUSE)
    request_.waiting = {request_.attempt: None}
    request_.attempt = None  # another was begun after it, served, and given back
    look(PAUSE, False)
    assert (seen_of(hold).seen, seen_of(hold).excused) == (PAUSE, 2 * PAUSE)
    request_.waiting.clear()
    look(PAUSE, False)
    assert (seen_of(hold).seen, seen_of(hold).excused) == (2 * PAUSE, 2 * PAUSE)


def test_of_the_loops_of_all_requests_is_asked_whether_they_stand_still(
    connections: list[Connection], request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[list[asyncio.AbstractEventLoop]]()

    def none_of(loops: Iterable[asyncio.AbstractEventLoop]) -> tuple[()]:
        asked.append(list(loops))
        return ()

    monkeypatch.setattr(idling, "standing_still", none_of)
    with closing(asyncio.new_event_loop()) as loop, Context().run(connections[0].engine.connect):
        look(PAUSE, False)
        request_.loop = loop
        look(PAUSE, False)
    assert asked == [[], [loop]]


def test_a_hold_of_a_shared_connection_is_not_looked_at(connections: list[Connection], request_: Request) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        look(PAUSE, False)
        look(PAUSE, False)
        assert request_.open[-1].pool.shared
        assert request_.open[-1].idling is None
    engine.dispose()


def test_a_hold_was_idle_for_what_was_seen_and_a_pause_at_either_end_of_each_stretch(
    connections: list[Connection], request_: Request
) -> None:
    hold, watch = request_.open[0], Watch()
    assert watch.idle_at_most(hold) == math.inf, "nobody looks"
    watch.start()
    assert watch.idle_at_most(hold) == 0.0, "no look has met it"
    hold.idling = Idling()
    hold.idling.seen, hold.idling.gaps = 2.0, 3
    assert watch.idle_at_most(hold) == 2.0 + 6 * PAUSE
    seen_of(hold).excused = PAUSE
    assert watch.idle_at_most(hold) == 2.0, "where it waits for its turn at times, it may have done so unseen"
    stop(watch)


def test_the_thread_goes_on_looking_with_the_time_that_has_passed(
    connections: list[Connection], request_: Request
) -> None:
    hold, other = request_.open
    connections[0].execute(text("SELECT 1"))
    connections[1].execute(text("SELECT 1"))
    watch, began = Watch(), time.perf_counter()
    watch.start()
    eventually(lambda: hold.idling is not None and hold.idling.seen >= 3 * PAUSE)
    other.running_what = object()
    eventually(lambda: seen_of(hold).excused > 0.0)
    other.running_what = None
    stop(watch)
    assert seen_of(hold).seen + seen_of(hold).excused <= time.perf_counter() - began


@pytest.mark.parametrize(("threshold", "pause"), [(1.0, 0.1), (0.5, 0.1), (0.25, 0.05), (0.01, 0.01), (3600.0, 0.1)])
def test_a_hold_at_the_threshold_is_looked_at_several_times(
    threshold: float, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(THRESHOLDS, "idle_hold_seconds", threshold)
    assert idling._pause() == pytest.approx(pause)
