"""When the same SELECT counts as one more of the same, by the records alone."""

from time import perf_counter
from types import SimpleNamespace

import pytest

from dbwatch.hooks.repeats import POLL_SECONDS, count_again
from dbwatch.records import Checkout, Request
from dbwatch.settings import THRESHOLDS
from tests.core.made import a_pool, a_request

SELECT = "SELECT state FROM orders WHERE number = ?"


def repeat(request: Request, times: int, pause: float = 0.001) -> None:
    """Run a statement that the request has run once already so many times more."""
    checkout = Checkout(a_pool(), request, perf_counter())
    checkout.last_statement = SELECT
    ran = request.ran = {SELECT: 0.0}
    now = perf_counter()
    for _ in range(times):
        checkout.running_since = now
        now += pause
        count_again(request, checkout, ran, SimpleNamespace(parameters=[(7,)]), now)


def test_the_first_run_of_a_request_counts_although_its_time_is_not_kept() -> None:
    few, enough = a_request(), a_request()
    repeat(few, THRESHOLDS.repeated_statements - 2)
    repeat(enough, THRESHOLDS.repeated_statements - 1)
    assert few.evidence is None
    assert [finding for finding, _site in enough.evidence or ()] == ["repeated_statement"]


def test_runs_with_a_pause_between_them_are_no_repetition() -> None:
    request = a_request()
    repeat(request, 3 * THRESHOLDS.repeated_statements, pause=POLL_SECONDS + 0.001)
    assert request.evidence is None


@pytest.mark.parametrize("started", [True, False])
def test_a_thread_that_counts_on_while_the_response_starts_accuses_nobody(started: bool) -> None:
    request = a_request(response_started_at=perf_counter() if started else None)
    repeat(request, THRESHOLDS.repeated_statements - 1)
    assert bool(request.evidence) is not started
