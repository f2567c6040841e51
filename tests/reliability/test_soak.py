"""Days of running in seconds; ``.ci/long soak`` goes on for longer."""

import gc

import pytest

from tests.bookkeeping.books import open_new_books
from tests.reliability.soak import grown, run


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_engines_paths_leaks_timeouts_and_cancelled_requests_leave_nothing_behind() -> None:
    open_new_books()
    gc.freeze()  # it collects often, and need not look at all that the test run has loaded
    try:
        _, early, late = run(3, share=0.05)
    finally:
        gc.unfreeze()
    assert grown(early, late) == []
