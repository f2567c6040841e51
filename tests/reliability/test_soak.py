"""Days of running in seconds; ``.ci/long soak`` goes on for longer."""

import pytest

from tests.bookkeeping.books import open_new_books
from tests.reliability.soak import grown, run


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_engines_paths_leaks_timeouts_and_cancelled_requests_leave_nothing_behind() -> None:
    open_new_books()
    _, early, late = run(3, share=0.05)
    assert grown(early, late) == []
