"""What dbwatch keeps does not grow with the number of requests, however many of them are faulty."""

import pytest

from tests.core.numbers import Numbers
from tests.findings.memory import FAULTY, MOST_FINDINGS, run

REQUESTS = 4000


@pytest.mark.filterwarnings(
    "ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_records_and_findings_do_not_grow_with_the_number_of_requests(numbers: Numbers) -> None:
    early, late = run(REQUESTS)
    assert late.records <= early.records + 20
    assert early.findings <= late.findings <= MOST_FINDINGS
    each = REQUESTS // 10 // len(FAULTY)
    found = numbers.nonzero("dbwatch_findings_total", "finding")
    # The first engine is no mistake yet, nor are those of requests that overlap with it.
    assert each - 5 <= found.pop("engine_per_request") < each
    assert found == {
        "leaked_connection": each,
        "lost_write": each,
        "nested_checkout": each,
        "repeated_statement": each,
    }
