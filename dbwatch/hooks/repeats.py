"""The same SELECT again and again in a request: an N+1, unless it polls, asks for many, or is run for its effect."""

import sys
from collections.abc import Mapping
from typing import Any

from dbwatch import judgement
from dbwatch.callsites import call_site
from dbwatch.records import Checkout, Request, Runs
from dbwatch.settings import THRESHOLDS
from dbwatch.sqltext import READ, has_an_effect, kind_of, page_size

#: A SELECT that runs again after a pause of this many seconds is polled, not repeated.
POLL_SECONDS = 0.1
#: A SELECT with so many parameters, or with a list for one, asks for many rows at once.
BATCH_PARAMETERS = 10
#: A SELECT with a LIMIT of so many goes through a table page by page.
PAGE_ROWS = 100


def count_again(request: Request, checkout: Checkout, ran: Runs, context: Any, now: float) -> None:
    """Count another run of a SELECT that follows the last one closely; one that comes back after a pause is a poll. The
    time that statements took is no pause, be they on this connection or on one that was given back meanwhile.
    """
    statement = checkout.last_statement
    if kind_of(statement) is not READ:
        return
    run = ran.get(statement, now)  # another thread may have started counting anew
    times, last = (1, run) if isinstance(run, float) else run
    times = times + 1 if now - max(last, checkout.running_since, request.gave_back_at) < POLL_SECONDS else 1
    ran[statement] = (times, now)
    if times != THRESHOLDS.repeated_statements or _asks_for_many(statement, context):
        return
    # A thread that ran a statement just when the response started has begun to count again.
    if request.response_started_at is None:
        judgement.repeated(request, checkout, statement, call_site(sys._getframe(2)), times)


def _asks_for_many(statement: str, context: Any) -> bool:
    """True if the statement fetches a batch, as selectinload() does for each 500 parents, or a page of many rows, or
    no rows at all: that is no N+1.
    """
    given = context.parameters
    parameters = given[0] if given else ()
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    if len(values) >= BATCH_PARAMETERS or any(isinstance(value, list | tuple) for value in values):
        return True
    return page_size(statement, parameters) >= PAGE_ROWS or has_an_effect(statement)
