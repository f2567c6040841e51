"""The document of one worker and the state of several, from facts made by hand."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest

from dbwatch.facts import Finding, Waiter
from dbwatch.ledger import Ledger
from dbwatch.outputs.live import document
from dbwatch.outputs.live.document import State, WorkerState
from dbwatch.outputs.live.history import SAMPLES
from dbwatch.outputs.live.report import Reporter, Source
from dbwatch.outputs.live.state import LATE_SECONDS, merge
from tests.live.facts import finding, holder, snapshot

if TYPE_CHECKING:
    from dbwatch import PoolSnapshot
    from dbwatch.accumulators import Accumulators

START = 1_700_000_000
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "live-page.md"


class Worker:
    """A worker whose facts a test sets, and whose clock it moves."""

    def __init__(self, pid: int = 1) -> None:
        self.pools: tuple[PoolSnapshot, ...] = (snapshot(),)
        self.waiters: dict[str, tuple[Waiter, ...]] = {}
        self.accumulators: Accumulators = Ledger().accumulators
        self.findings: tuple[Finding, ...] = ()
        self.returned: tuple[Finding, ...] = ()
        self.at = START
        source = Source(
            lambda: self.pools,
            lambda: self.waiters,
            lambda: self.accumulators,
            lambda: self.findings,
            lambda: self.returned,
        )
        self.reporter = Reporter(source, pid, float(START))

    def live(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.reporter.sample(self.at)
            self.at += 1

    def report(self) -> WorkerState:
        return self.reporter.report(float(self.at - 1))

    def checkout(self, seconds: float, *, outcome: str = "ok", hold: float = 0.0) -> None:
        self.accumulators.histogram("dbwatch_checkout_seconds", "primary", outcome).observe(seconds)
        if outcome == "ok":
            self.accumulators.histogram("dbwatch_hold_seconds", "primary").observe(hold)


def merged(*workers: Worker, last: int = SAMPLES) -> State:
    return merge([worker.report() for worker in workers], float(workers[0].at - 1), last)


def test_the_state_is_plain_json_whatever_is_unlimited() -> None:
    worker = Worker()
    worker.pools = (snapshot(limit=math.inf, timeout_seconds=math.inf, size=0),)
    worker.live()
    state = json.loads(json.dumps(merged(worker), allow_nan=False))
    assert state["pools"][0]["now"]["limit"] is None
    assert state["pools"][0]["now"]["timeout_seconds"] is None
    assert state["version"] == document.VERSION


def test_every_field_of_the_state_is_documented() -> None:
    written = DOCUMENTATION.read_text()
    shapes = [State, document.Pool, document.Gauges, document.HolderRow, document.WaiterRow, document.Times]
    shapes += [document.Advice, document.Remark, document.RouteRow, document.FindingGroup, document.Worker]
    shapes += [document.Samples, document.CheckoutHistory, document.Share, document.Verdict]
    missing = [
        f"{shape.__name__}.{name}" for shape in shapes for name in get_type_hints(shape) if f"`{name}`" not in written
    ]
    assert missing == []


def test_holders_stand_oldest_first_with_what_they_do() -> None:
    worker = Worker(pid=7)
    worker.pools = (
        snapshot(
            holders=(
                holder(age_seconds=1.0, executing=True),
                holder(age_seconds=9.0, leaked=True, executing=True),
                holder(age_seconds=3.0),
            )
        ),
    )
    worker.live()
    holders = merged(worker)["pools"][0]["holders"]
    assert [(row["age_seconds"], row["state"], row["worker"]) for row in holders] == [
        (9.0, "leaked", 7),
        (3.0, "idle", 7),
        (1.0, "executing", 7),
    ]


def test_the_history_goes_back_ten_minutes_and_not_further() -> None:
    worker = Worker()
    worker.live(SAMPLES + 50)
    state = merged(worker)
    history = state["pools"][0]["history"]
    assert state["window_seconds"] == SAMPLES
    assert history["at"][-1] == worker.at - 1
    assert history["at"][-1] - history["at"][0] <= SAMPLES
    assert {len(column) for column in history.values()} == {len(history["at"])}  # type: ignore[arg-type]


def test_an_update_carries_the_newest_seconds_only() -> None:
    worker = Worker()
    worker.live(100)
    history = merged(worker, last=10)["pools"][0]["history"]
    assert history["at"] == list(range(worker.at - 11, worker.at))


def test_samples_of_several_workers_are_added_second_by_second() -> None:
    first, second = Worker(1), Worker(2)
    for used, other in ((1, 4), (2, 5), (3, 6)):
        first.pools = (snapshot(used=used, waiters=1),)
        second.pools = (snapshot(used=other),)
        first.live()
        second.live()
    history = merged(first, second)["pools"][0]["history"]
    assert history["used"] == [5, 7, 9]
    assert history["waiters"] == [1, 1, 1]
    assert history["limit"] == [30, 30, 30]


def test_a_second_that_a_worker_missed_takes_its_sample_before() -> None:
    first, second = Worker(1), Worker(2)
    first.live(3)
    second.pools = (snapshot(used=4),)
    second.live()
    second.at += 1
    second.live()
    assert merged(first, second)["pools"][0]["history"]["used"] == [4, 4, 4]


def test_a_worker_that_came_later_adds_nothing_before() -> None:
    first, second = Worker(1), Worker(2)
    first.pools = second.pools = (snapshot(used=2),)
    first.live(3)
    second.at += 2
    second.live()
    assert merged(first, second)["pools"][0]["history"]["used"] == [2, 2, 4]


def test_numbers_and_routes_of_workers_are_added_up() -> None:
    first, second = Worker(1), Worker(2)
    for worker in (first, second):
        worker.pools = (snapshot(holders=(holder(), holder(route="/slow"))),)
        worker.live(11)
    state = merged(first, second)
    assert (state["pools"][0]["now"]["used"], state["pools"][0]["now"]["limit"]) == (4, 30)
    assert {row["route"]: (row["connections"], row["connection_seconds"]) for row in state["routes"]} == {
        "/reports": (2, 4.0),
        "/slow": (2, 4.0),
    }
    assert [share["pid"] for share in state["pools"][0]["workers"]] == [1, 2]


def test_one_empty_pool_among_idle_workers_is_the_verdict() -> None:
    calm, starved = Worker(1), Worker(2)
    starved.pools = (snapshot(used=15, waiters=3, oldest_waiter_seconds=2.0, holders=(holder(),) * 15),)
    calm.live()
    starved.live()
    verdict = merged(calm, starved)["pools"][0]["verdict"]
    assert verdict["level"] == "critical"
    assert verdict["text"].startswith(
        "Worker 2: 3 requests waiting, oldest 2.0 s: pool of 15 fully held, 15 of 15 idle"
    )


def test_a_pool_in_trouble_stands_before_the_healthy_ones() -> None:
    worker = Worker()
    starved = snapshot(name="reports", used=15, waiters=3, oldest_waiter_seconds=2.0, holders=(holder(),) * 15)
    worker.pools = (snapshot(name="billing"), starved, snapshot(name="shop"))
    worker.live()
    assert [pool["name"] for pool in merged(worker)["pools"]] == ["reports", "billing", "shop"]


def test_timeouts_colour_the_verdict_for_a_minute() -> None:
    worker = Worker()
    worker.live(SAMPLES)
    worker.checkout(30.0, outcome="timeout")
    worker.live()
    assert "1 checkout gave up waiting" in merged(worker)["pools"][0]["verdict"]["text"]
    worker.live(75)
    assert merged(worker)["pools"][0]["verdict"]["level"] == "ok"


def test_what_happened_before_the_window_is_not_in_its_numbers() -> None:
    worker = Worker()
    worker.live(5)
    for _ in range(10):
        worker.checkout(0.2, hold=1.0)
    worker.live(300)
    assert merged(worker)["pools"][0]["checkout"]["count"] == 10
    worker.live(SAMPLES)
    worker.checkout(0.003)
    state = merged(worker)["pools"][0]
    assert state["checkout"]["count"] == 1
    assert state["outcomes"]["ok"] == 1
    assert state["checkout"]["p99"] == pytest.approx(0.005, abs=0.0025)


def test_checkout_times_have_a_point_every_ten_seconds() -> None:
    worker = Worker()
    for _ in range(6):
        worker.checkout(0.3)
        worker.live(10)
    points = merged(worker)["pools"][0]["checkout_history"]
    assert len(points["at"]) == 5
    assert all(later - earlier == 10 for earlier, later in zip(points["at"], points["at"][1:], strict=False))
    assert all(value is not None and 0.25 <= value <= 0.5 for value in points["p95"])


def test_holds_and_waits_that_have_not_ended_count_in_what_time_is_spent_on() -> None:
    worker = Worker()
    worker.pools = (snapshot(waiters=1, holders=(holder(age_seconds=9.0, executing_seconds=1.0),)),)
    worker.waiters = {"primary": (Waiter("GET", "/late", 4.0),)}
    worker.live(30)
    pool = merged(worker)["pools"][0]
    assert pool["activity"] == {"executing": 1.0, "idle": 8.0, "unknown": 0}
    assert pool["phases"]["wait"] == 4.0
    assert pool["waiting"] == [{"worker": 1, "method": "GET", "route": "/late", "waited_seconds": 4.0}]


def test_a_pool_emptied_by_idle_holds_is_not_simply_called_too_small() -> None:
    worker = Worker()
    worker.live(300)
    idle, busy = holder(age_seconds=9.0, executing_seconds=0.1), holder(age_seconds=9.0, executing_seconds=9.0)
    worker.pools = (snapshot(waiters=4, holders=(idle,) * 12 + (busy,) * 3),)
    worker.live(10)
    advice = merged(worker)["pools"][0]["advice"]
    assert (advice["p99_needed"], advice["action"]) == (19, "raise")
    assert advice["text"].startswith("Shorten the holds first: when most were needed, 80% of those held ran no SQL.")


def test_leaked_connections_serve_nobody_and_call_for_no_larger_pool() -> None:
    worker = Worker()
    worker.pools = (snapshot(used=5, leaked=4, used_peak=5),)
    worker.live(200)
    assert merged(worker)["pools"][0]["advice"]["p99_needed"] == 1


def test_findings_are_grouped_by_line_latest_first_with_cause_and_fix() -> None:
    worker = Worker()
    leaks = [finding(at=100.0), finding(at=300.0, message="The newest.")]
    other = finding(finding="idle_hold", at=200.0, lines=("app.py:9 report",))
    worker.findings, worker.returned = (leaks[0], other, leaks[1]), (leaks[0],)
    worker.live()
    groups = merged(worker)["findings"]
    assert [(one["finding"], one["count"], one["returned"]) for one in groups] == [
        ("leaked_connection", 2, 1),
        ("idle_hold", 1, 0),
    ]
    assert groups[0]["message"] == "The newest."
    assert (groups[0]["first_at"], groups[0]["last_at"]) == (100.0, 300.0)
    assert all(one["cause"] and one["fix"] and one["page"].startswith("https://") for one in groups)


def test_the_same_finding_in_two_workers_is_one_group() -> None:
    first, second = Worker(1), Worker(2)
    for worker in (first, second):
        worker.findings = (finding(),)
        worker.live()
    (group,) = merged(first, second)["findings"]
    assert (group["count"], group["workers"]) == (2, [1, 2])


def test_a_worker_without_news_is_called_late() -> None:
    fresh, old = Worker(1), Worker(2)
    fresh.at += int(LATE_SECONDS) + 1
    for worker in (fresh, old):
        worker.live()
    assert [worker["late"] for worker in merged(fresh, old)["workers"]] == [False, True]


def test_a_pool_that_is_gone_leaves_the_state() -> None:
    worker = Worker()
    worker.pools = (snapshot("a"), snapshot("b"))
    worker.live()
    worker.pools = (snapshot("b"),)
    worker.live()
    assert [pool["name"] for pool in merged(worker)["pools"]] == ["b"]


def test_the_document_of_a_busy_worker_stays_small() -> None:
    worker = Worker()
    long: dict[str, Any] = {"last_statement": "x" * 300, "lines": ("f" * 100,) * 4}
    worker.pools = (snapshot(limit=math.inf, holders=(holder(**long),) * 1000),)
    worker.findings = tuple(finding(lines=(f"app.py:{n} f",), message="m" * 2000) for n in range(500))
    worker.live(SAMPLES)
    assert len(json.dumps(worker.report())) < 400_000
