"""The plugin itself: watches each test, judges it at the end of its body and again after its fixtures are torn down."""

import gc
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import pytest

from dbwatch import leaks, runtime, settings
from dbwatch.facts import Finding
from dbwatch.hooks.engines import forget_creations
from dbwatch.outputs.logs import paragraph
from dbwatch.pytest_plugin.apps import watch_apps
from dbwatch.pytest_plugin.excuses import ExcuseError, Rule, entry, known_finding, read_baseline, write_baseline
from dbwatch.pytest_plugin.findings import Arrivals, Start
from dbwatch.pytest_plugin.fixture import DBWatch
from dbwatch.pytest_plugin.limits import LimitError, Limits
from dbwatch.pytest_plugin.results import Results, Row
from dbwatch.pytest_plugin.tally import Holds, Tally, Use
from dbwatch.records import reserve_request_number

#: How long a verdict may be waited for, in seconds: a thread lets go of its request a moment after the response.
_PATIENCE: Final = 0.5
_DEFAULT_BASELINE: Final = "dbwatch-baseline.txt"
_KNOWN: Final = "the baseline file knows it"
#: What says more about the machine or the set-up of the tests than about the code under test.
_NOTED: Final = {
    "slow_checkout": "the time of a checkout in a test tells of the machine",
    "risky_configuration": "the settings of tests are not those of production",
}


class _Test:
    """The test that runs now."""

    __slots__ = ("failing", "findings", "limits", "rules", "start", "tally", "use")

    def __init__(self, start: Start, limits: Limits, rules: Sequence[Rule]) -> None:
        self.start = start
        self.limits = limits
        self.rules = rules
        self.findings: list[Finding] = []
        #: Those it is still to fail for.
        self.failing: list[Finding] = []
        self.tally: Tally | None = None
        self.use: Use | None = None


class Plugin:
    """One run.

    Raises:
        pytest.UsageError: an option of dbwatch is wrong, or dbwatch is switched off in the environment.
    """

    def __init__(self, config: pytest.Config, asks: Callable[[pytest.Item], bool], *, every_test: bool) -> None:
        self._config = config
        self._asks = asks
        self._every_test = every_test
        self._writes = bool(config.getoption("dbwatch_write_baseline"))
        self.results = Results()
        try:
            self._rules = [Rule.read(line) for line in config.getini("dbwatch_ignore")]
            self._known = self._baseline()
            if not settings.build({}).enabled:
                raise pytest.UsageError("dbwatch is asked for, and DBWATCH_ENABLED in the environment switches it off.")
        except (ExcuseError, settings.ConfigurationError) as error:
            raise pytest.UsageError(str(error)) from None
        runtime.install()
        watch_apps()
        self._holds = Holds()
        self._arrivals = Arrivals(self._holds)
        self._pending = 0
        self._test: _Test | None = None

    @property
    def _baseline_path(self) -> Path:
        return self._config.rootpath / (self._config.getini("dbwatch_baseline") or _DEFAULT_BASELINE)

    def _baseline(self) -> frozenset[str]:
        if self._writes:
            return frozenset()
        if not self._config.getini("dbwatch_baseline") and not self._baseline_path.exists():
            return frozenset()
        return read_baseline(self._baseline_path)

    def check(self, items: Sequence[pytest.Item]) -> None:
        """Look at the marks of the tests that are to run.

        Raises:
            pytest.UsageError: one of them is wrong.
        """
        for item in items:
            try:
                _limits(item)
                _rules(item)
            except (LimitError, ExcuseError) as error:
                raise pytest.UsageError(f"{item.nodeid}: {error}") from None

    def fixture(self) -> DBWatch:
        """The fixture for the test that runs now."""
        return DBWatch(self._holds, self._findings_so_far)

    def _findings_so_far(self) -> tuple[Finding, ...]:
        self._collect()
        return () if self._test is None else tuple(self._test.findings)

    # The phases of a test.

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """A test begins."""
        self._collect()  # what is still to be told of the tests before
        watch_apps()
        forget_creations()
        self._holds.forget()
        start = Start(item.nodeid, self._every_test or self._asks(item), reserve_request_number(), perf_counter())
        self._arrivals.begin(start)
        self._test = _Test(start, _limits(item), (*_rules(item), *self._rules))
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """The body of a test runs. One that fails by itself is told what was found beside its own failure."""
        test = self._test
        if test is None:
            return (yield)
        test.tally = Tally(self._holds)
        try:
            result = yield
        except (Exception, pytest.fail.Exception):
            test.use = test.tally.use()
            complaint = self._judge(test)
            if complaint:
                item.add_report_section("call", "dbwatch", complaint)
            raise
        test.use = test.tally.use()
        limits = test.limits.complaint(test.use, "this test") if test.start.judged else ""
        complaint = "\n\n".join(filter(None, (limits, self._judge(test))))
        if complaint:
            pytest.fail(complaint, pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """The fixtures of a test are torn down: what they leave is the test's as well."""
        test = self._test
        if test is None:
            return (yield)
        try:
            result = yield
            self._reclaim(test)
            complaint = self._judge(test)
        finally:
            self._test = None
            if test.start.judged:
                self.results.add(Row.of(test.start.test, test.use, len(test.findings)))
        if complaint:
            pytest.fail(complaint, pytrace=False)
        return result

    def _reclaim(self, test: _Test) -> None:
        """Prove that a connection which the test itself took will not come back, before another test runs. A fixture of
        a wider scope may hold one as long as it likes, so it takes the garbage collector to tell.
        """
        runtime.flush()
        if any(
            hold.asked_at >= test.start.at and not hold.leaked and not hold.pool.shared for hold in self._holds.out()
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SQLAlchemy and the drivers warn of what we are about to report
                gc.collect()

    # Verdicts.

    def _judge(self, test: _Test) -> str:
        """What the test is to fail for now; empty if for nothing."""
        if leaks.pending() > self._pending:
            leaks.settle(_PATIENCE)
        self._pending = leaks.pending()  # those will not settle soon: their tasks outlive the test
        self._collect()
        failing, test.failing = test.failing, []
        if not failing:
            return ""
        mistakes = "a mistake" if len(failing) == 1 else f"{len(failing)} mistakes"
        return "\n\n".join((f"dbwatch found {mistakes} during this test.", *map(paragraph, failing)))

    def _collect(self) -> None:
        """Sort what has been found since the last call."""
        runtime.flush()
        for finding, owner in self._arrivals.fresh():
            test = self._test
            if test is not None and owner is test.start:
                test.findings.append(finding)
                if test.start.judged and not self._passes_over(finding, owner.test, test.rules):
                    test.failing.append(finding)
            elif self._every_test if owner is None else owner.judged:
                name = "(the code before the first test)" if owner is None else owner.test
                if not self._passes_over(finding, name, self._rules):
                    self.results.late.append((name, paragraph(finding)))

    def _passes_over(self, finding: Finding, test: str, rules: Sequence[Rule]) -> bool:
        reason = self._excuse(finding, test, rules)
        if reason:
            self.results.passed_over[(finding.finding, reason)] += 1
        return bool(reason)

    def _excuse(self, finding: Finding, test: str, rules: Sequence[Rule]) -> str:
        for rule in rules:
            if rule.covers(finding, test):
                return rule.reason
        if finding.finding in _NOTED:
            return _NOTED[finding.finding]
        if finding.finding == "shared_session" and not finding.numbers.get("taken_by_request", 1):
            return "the connection was the test's own, which lends it to several requests"
        if self._writes:
            self.results.entries.add(entry(finding))
            return "it is written to the baseline file"
        return _KNOWN if entry(finding) in self._known else ""

    # The end of the run.

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand the results to the controller of pytest-xdist, or draw the line here."""
        self._collect()
        output: Any = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["dbwatch"] = self.results.give()
            return
        if self._writes:
            try:
                write_baseline(self._baseline_path, self.results.entries)
            except ExcuseError as error:
                raise pytest.UsageError(str(error)) from None
        if self.results.late and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The table at the end."""
        terminalreporter.section("dbwatch")
        for line in self.results.summary():
            terminalreporter.write_line(line)
        if self._writes:
            count = len(self.results.entries)
            terminalreporter.write_line(
                f"Wrote {self._baseline_path} with {count} {'entry' if count == 1 else 'entries'}."
            )


def _limits(item: pytest.Item) -> Limits:
    """The limits of a test: those of its own mark before those of its class or module."""
    given: dict[str, Any] = {}
    for mark in item.iter_markers("dbwatch"):
        if mark.args:
            raise LimitError(f"@pytest.mark.dbwatch takes keywords only, not {mark.args[0]!r}.")
        given = {**mark.kwargs, **given}
    return Limits.of(given)


def _rules(item: pytest.Item) -> list[Rule]:
    rules = []
    for mark in item.iter_markers("dbwatch_ignore"):
        reason = mark.kwargs.get("reason")
        if not isinstance(reason, str) or not reason.strip() or len(mark.kwargs) > 1:
            raise ExcuseError('@pytest.mark.dbwatch_ignore needs a reason="..." and takes no other keyword.')
        names = mark.args or ("*",)
        rules += [Rule(known_finding(name, "@pytest.mark.dbwatch_ignore"), reason) for name in names]
    return rules
