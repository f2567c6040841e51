"""A plugin for pytest: which tests run which lines, and, for a mutant, the run of those that run its line.

With MUTANTS_OBSERVED only, it writes that file; with MUTANTS_PRISTINE besides, the directory of the code as it was, it
reads it. The only file that differs from the pristine code is the mutant's. With MUTANTS_UNCHANGED, the name of a file
that is not changed, those tests run that its mutants may run: each must pass, or it would notice every mutant. With
MUTANTS_AGAIN, those that failed last: a test that fails now and then has noticed nothing.
"""

import functools
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

OBSERVED = Path(os.environ["MUTANTS_OBSERVED"])
PRISTINE = os.environ.get("MUTANTS_PRISTINE")
UNCHANGED = os.environ.get("MUTANTS_UNCHANGED")
AGAIN = os.environ.get("MUTANTS_AGAIN")
#: Seconds that the tests of a mutant may take, by what they took unchanged.
_SECONDS = 20.0
#: Of a test that takes longer, only one case is run; what takes still longer is left out.
_QUICK, _SLOW = 0.5, 8.0
#: What a test must not need: servers that take their time to start.
_SERVERS = ("postgres", "mariadb", "pgbouncer", "prometheus", "async_database", "database")


class Observation:
    """The run of the unchanged code, under ``coverage run``."""

    def __init__(self) -> None:
        import coverage

        measured = coverage.Coverage.current()
        assert measured is not None, "to be run by coverage"
        self.coverage = measured
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not _needs_a_server(item)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":  # what lies around it collects the garbage of all tests before
            self.seconds[report.nodeid] += report.duration
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        data = self.coverage.get_data()
        root = Path.cwd()
        names = list(self.seconds)
        numbers = {name: number for number, name in enumerate(names)}
        chosen: dict[str, dict[int, list[int]]] = {}
        for name in data.measured_files():
            path = Path(name)
            if path.is_relative_to(root / "dbwatch"):
                ran = data.contexts_by_lineno(name)
                ran[0] = [test for tests in ran.values() for test in tests]
                chosen[str(path.relative_to(root))] = {
                    line: [numbers[test] for test in self._quickest({*tests}, path.stem)] for line, tests in ran.items()
                }
        OBSERVED.write_text(json.dumps({"tests": names, "chosen": chosen}))

    def _quickest(self, tests: Iterable[str], module: str) -> list[str]:
        """Those first whose file names the module: what a thread of ours runs, it runs beside every other test too. Of
        each test one case, then of each a second one: a hundred cases of one test would leave no time for another.
        """
        found: list[str] = []
        left = _SECONDS
        for (_, case, seconds), test in sorted(self._ordered(tests, module)):
            if seconds > _SLOW or (case > 0 and seconds > _QUICK):
                continue
            left -= seconds
            if left < 0:
                break
            found.append(test)
        return found

    def _ordered(self, tests: Iterable[str], module: str) -> Iterator[tuple[tuple[bool, int, float], str]]:
        cases: Counter[str] = Counter()
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            if test and test not in self.failed:
                function = test.partition("[")[0]
                yield (not _names(test, module), cases[function], self.seconds[test]), test
                cases[function] += 1


@functools.cache
def _names_in(file: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", Path(file).read_text("utf-8")))


def _names(test: str, module: str) -> bool:
    return module in _names_in(test.partition("::")[0])


def _needs_a_server(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    case: Any = getattr(item, "callspec", None)
    words = "" if case is None else case.id
    if "sqlite" in words:
        return any(name in names for name in ("postgres", "mariadb", "pgbouncer", "prometheus"))
    return any(name in names for name in _SERVERS) or any(word in words for word in ("psycopg", "asyncpg", "mysql"))


def mutated_line(pristine: Path) -> tuple[str, int]:
    """The file that differs, and the first line that does."""
    for path in sorted((pristine / "dbwatch").rglob("*.py")):
        name = path.relative_to(pristine)
        before, now = path.read_text().splitlines(), Path(name).read_text().splitlines()
        if before != now:
            same = next((n for n, pair in enumerate(zip(before, now, strict=False)) if pair[0] != pair[1]), len(now))
            return str(name), same + 1
    raise LookupError("nothing is mutated")


def chosen_tests(name: str, line: int) -> list[str]:
    """The tests that run a line, or the beginning of its statement, the quickest first. Of a line that runs when its
    module is imported, those of the whole module.
    """
    observed = json.loads(OBSERVED.read_text())
    chosen: dict[int, list[int]] = {int(number): tests for number, tests in observed["chosen"][name].items()}
    began = max(number for number in chosen if number <= line)
    return [observed["tests"][number] for number in chosen[began] or chosen[0]]


def every_chosen_test(name: str) -> list[str]:
    """The tests that a mutant of a file may run: first those of the whole file, in the order in which they would."""
    observed = json.loads(OBSERVED.read_text())
    chosen: dict[str, list[int]] = observed["chosen"][name]
    ordered = dict.fromkeys([*chosen["0"], *(test for tests in chosen.values() for test in tests)])
    return [observed["tests"][number] for number in ordered]


def pytest_configure(config: pytest.Config) -> None:
    """Observe, or choose what to run."""
    if AGAIN is not None:
        # Not --last-failed: that looks for nothing else in a file, and then misses the other tests that are asked for.
        assert config.cache is not None
        config.args = [*config.cache.get("cache/lastfailed", {})]
        if not config.args:
            pytest.exit("the tests came to no end", returncode=1)
    elif UNCHANGED is not None:
        config.args = every_chosen_test(UNCHANGED)
    elif PRISTINE is not None:
        config.args = chosen_tests(*mutated_line(Path(PRISTINE)))
    else:
        config.pluginmanager.register(Observation())
        return
    if not config.args:
        pytest.exit("no test runs this line", returncode=0)
