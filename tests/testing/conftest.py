import pytest

from tests.core.numbers import start_anew


@pytest.fixture(autouse=True)
def a_process_that_knows_no_pool() -> None:
    """At most twenty names of pools get series of their own; the tests before have used them up."""
    start_anew()
