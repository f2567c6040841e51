"""Real servers for every test. What is not installed fails the run on CI, and skips elsewhere.

The hooks of dbwatch are installed once in a process and never removed: a test reads counters as differences, or gives
its engines names of its own.
"""

import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, Protocol

import hypothesis
import psutil
import pytest

from demo_app.postgres import EmbeddedPostgres, PostgresError
from tests.servers.asgi import UvicornProcess
from tests.servers.databases import ASYNC, SYNC, AsyncDatabase, SyncDatabase, database_at, database_url
from tests.servers.mariadb import MariaDB
from tests.servers.pgbouncer import PgBouncer
from tests.servers.program import MissingProgramError
from tests.servers.prometheus import Prometheus

pytest_plugins = ["pytester"]

ON_CI = bool(os.environ.get("CI"))

# No deadlines: they would measure the machine. On CI the examples are the same in every run.
hypothesis.settings.register_profile("dbwatch", deadline=None, derandomize=ON_CI, print_blob=True)
hypothesis.settings.load_profile("dbwatch")


def pytest_collection_finish() -> None:
    """What the tests have imported stays until their end. Looking at all of it again in each of the many garbage
    collections that they force would take most of the run's time.
    """
    gc.collect()
    gc.freeze()


def cannot_run(reason: Exception) -> NoReturn:
    """Fail the run on CI, skip the test elsewhere: something that it needs is not installed."""
    if ON_CI:
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """Fails the run if a test leaves a child process behind."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child not in before]
    assert not left, [child.cmdline() for child in left]


@pytest.fixture(scope="session")
def postgres(nothing_is_left_running: None) -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the whole run. A test that stops or reconfigures it makes its own."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(EmbeddedPostgres(settings={"max_connections": "200"}))
        except PostgresError as error:
            cannot_run(error)
        yield server


@pytest.fixture(scope="session")
def mariadb(nothing_is_left_running: None) -> Iterator[MariaDB]:
    """One MariaDB for the whole run. A test that stops it makes its own."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(MariaDB())
        except MissingProgramError as error:
            cannot_run(error)
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: EmbeddedPostgres) -> Iterator[PgBouncer]:
    """One PgBouncer in front of the one PostgreSQL."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(PgBouncer(postgres.port))
        except MissingProgramError as error:
            cannot_run(error)
        yield server


class StartPrometheus(Protocol):
    """Starts a Prometheus that lives until the end of the test, and waits until it has scraped every target."""

    def __call__(self, *targets: str, rules: Sequence[Path] = (), interval: str = "1s") -> Prometheus: ...


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[StartPrometheus]:
    """Starts a real Prometheus for this test: ``prometheus("127.0.0.1:8000")``."""
    with ExitStack() as stack:

        def start(*targets: str, rules: Sequence[Path] = (), interval: str = "1s") -> Prometheus:
            try:
                server = stack.enter_context(Prometheus(tmp_path, targets, rules=rules, interval=interval))
            except MissingProgramError as error:
                cannot_run(error)
            server.wait_for_targets()
            return server

        yield start


@pytest.fixture
def uvicorn_process(tmp_path: Path) -> Iterator[Callable[..., UvicornProcess]]:
    """Starts ``uvicorn APP`` in a process of its own until the end of the test; takes the options of UvicornProcess."""
    with ExitStack() as stack:
        number = 0

        def start(app: str, **options: Any) -> UvicornProcess:
            nonlocal number
            number += 1
            return stack.enter_context(UvicornProcess(app, tmp_path / f"uvicorn-{number}.log", **options))

        yield start


def url_of(name: str, request: pytest.FixtureRequest, directory: Path) -> str:
    """The URL of a database; the server that it needs is started, unless it is SQLite."""
    kind = name.partition("-")[0]
    return database_url(name, directory, None if kind == "sqlite" else request.getfixturevalue(kind))


@pytest.fixture(params=SYNC)
def sync_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SyncDatabase]:
    """Every database with a sync driver in turn."""
    database = SyncDatabase(request.param, url_of(request.param, request, tmp_path))
    yield database
    database.dispose()


@pytest.fixture(params=ASYNC)
async def async_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncDatabase]:
    """Every database with an async driver in turn."""
    database = AsyncDatabase(request.param, url_of(request.param, request, tmp_path))
    yield database
    await database.dispose()


@pytest.fixture(params=[*SYNC, *ASYNC])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SyncDatabase | AsyncDatabase]:
    """Every database and driver in turn, sync and async."""
    async with database_at(request.param, url_of(request.param, request, tmp_path)) as database:
        yield database
