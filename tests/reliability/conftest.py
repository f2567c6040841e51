import pytest

from tests.bookkeeping.requests import RequestRunner


@pytest.fixture(scope="session")
def in_request() -> RequestRunner:
    return RequestRunner()
