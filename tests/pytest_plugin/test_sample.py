"""The sample project: tests of faulty apps fail with the finding and its line, all others pass, under xdist as well."""

import re

import pytest

from tests.findings.guilty import guilty_lines
from tests.pytest_plugin.conftest import Run, reports
from tests.pytest_plugin.sample.mistakes import CASES, SLOW, Case

WORKERS = [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="xdist")]
_FOUND = re.compile(r"\[(\w+)\] (?:in|outside) .*\n    (\S+) ")


def name_of(case: Case, kind: str) -> str:
    """The name under which pytest reports a test of the sample."""
    return f"test_an_answer_arrives[{case.name}-{'async' if case.is_async else 'sync'}-{kind}]"


def fails(case: Case) -> str:
    """The name of the test that makes a mistake."""
    return f"test_an_answer_arrives[{case.name}-{'async' if case.is_async else 'sync'}-faulty]"


@pytest.mark.parametrize("workers", [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="xdist")])
def test_of_the_sample_exactly_the_tests_of_faulty_apps_fail_with_the_finding_and_its_line(
    workers: tuple[str, ...], run_sample: Run
) -> None:
    # The garbage of a mistake may come to light, as a warning of Python or a driver, in any test after it.
    result = run_sample("mistakes.py", "patterns.py", "--dbwatch", "-W", "ignore", *workers)
    told = reports(result)
    bare = "test_of_an_app_without_the_middleware[leaked_connection-sync-faulty]"
    expected = {fails(case): case for case in CASES}
    # Neither the corrected apps nor any of the fixtures that clean up after each test.
    assert set(told) == {*expected, bare}
    for name, case in expected.items():
        found = dict(_FOUND.findall(told[name]))
        assert found[case.name] in guilty_lines(case.build("faulty")), told[name]
        assert "Cause: " in told[name]
        assert "Fix: " in told[name]
    assert "[leaked_connection] in GET /orders/{number}" in told[bare]
    passed = result.parseoutcomes()
    assert passed.pop("failed") == len(told)
    assert set(passed) == {"passed"}
    noted = re.findall(r"^Not failed: (\w+), 1 times, because (.+)$", result.stdout.str(), re.MULTILINE)
    assert noted == [
        ("shared_session", "the connection was the test's own, which lends it to several requests"),
        ("slow_checkout", "the time of a checkout in a test tells of the machine"),
    ]
    result.stdout.fnmatch_lines(["*= dbwatch =*", "statements *checkouts *connections *held (s) *findings *test"])
    rows = re.findall(r"^ +\d+ .* [1-9]  \S+::(.+)$", result.stdout.str(), re.MULTILINE)
    assert len(rows) == 10
    assert set(rows) <= {*told, fails(SLOW), "test_requests_at_once_in_the_transaction_of_the_test"}


def test_without_the_plugin_every_test_of_the_sample_passes(run_sample: Run) -> None:
    result = run_sample("mistakes.py")
    result.assert_outcomes(passed=2 * len(CASES) + 3)
    result.stdout.no_fnmatch_line("*= dbwatch =*")
