"""Where pytest finds the plugin of dbwatch: its options, its marks and its fixture.

pytest loads this module in every run on a machine that has dbwatch installed, and before coverage begins to measure. So
it lies outside the package and imports nothing of it until a run asks for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dbwatch.pytest_plugin.fixture import DBWatch
    from dbwatch.pytest_plugin.plugin import Plugin

_PLUGIN = "dbwatch-watching"
_MARKS = (
    "dbwatch(max_statements, max_checkouts, max_connections): fail this test for mistakes, and for more use than that.",
    "dbwatch_ignore(*findings, reason): do not fail this test for these findings, or for any if none is named.",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; nothing happens unless one of them, the mark or the fixture asks for it."""
    group = parser.getgroup("dbwatch", "misuse of the database connections (dbwatch)")
    group.addoption(
        "--dbwatch", action="store_true", help="Fail every test during which dbwatch finds a mistake, as a leak."
    )
    group.addoption(
        "--dbwatch-write-baseline",
        action="store_true",
        help="Write the findings of this run to the baseline file, and fail no test for them. Implies --dbwatch.",
    )
    parser.addini("dbwatch", "As --dbwatch in every run.", type="bool", default=False)
    parser.addini(
        "dbwatch_ignore",
        "Findings that fail no test, one a line: FINDING [at FILE] [in TEST] because REASON. FINDING is a name or *, "
        "FILE and TEST may contain *.",
        type="linelist",
    )
    parser.addini(
        "dbwatch_baseline",
        "File with the findings that an existing project knows of and has not mended yet, relative to the root "
        "directory.",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks; load dbwatch if this run asks for it."""
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)
    if config.getoption("dbwatch") or config.getoption("dbwatch_write_baseline") or config.getini("dbwatch"):
        _load(config, every_test=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load dbwatch if one of the tests that are to run asks for it."""
    loaded = session.config.pluginmanager.get_plugin(_PLUGIN)
    if loaded is None and any(_asks(item) for item in session.items):
        loaded = _load(session.config, every_test=False)
    if loaded is not None:
        loaded.check(session.items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended: take over what its tests have brought."""
    brought = getattr(node, "workeroutput", {}).get("dbwatch")
    if brought is not None:
        _load(node.config, every_test=False).results.take(brought)


@pytest.fixture
def dbwatch(request: pytest.FixtureRequest) -> "DBWatch":
    """What this test has done with the database so far, and limits for parts of it."""
    return _load(request.config, every_test=False).fixture()


def _asks(item: pytest.Item) -> bool:
    return item.get_closest_marker("dbwatch") is not None or "dbwatch" in getattr(item, "fixturenames", ())


def _load(config: pytest.Config, *, every_test: bool) -> "Plugin":
    loaded: Plugin | None = config.pluginmanager.get_plugin(_PLUGIN)
    if loaded is None:
        loaded = import_module("dbwatch.pytest_plugin.plugin").Plugin(config, _asks, every_test=every_test)
        config.pluginmanager.register(loaded, _PLUGIN)
    return loaded
