from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from sqlalchemy import create_engine, text

from dbwatch.findings import FOUND
from dbwatch.hooks import engines
from demo_app.postgres import EmbeddedPostgres
from tests.core.numbers import Numbers, start_anew
from tests.findings.apps.shop import create_shop
from tests.findings.stage import Build, Stage
from tests.findings.visitor import Visitor
from tests.servers.asgi import Loop, serve
from tests.servers.databases import database_url

if TYPE_CHECKING:
    from tests.servers.mariadb import MariaDB


@pytest.fixture(autouse=True)
def numbers() -> Iterator[Numbers]:
    """The numbers of this test alone. Whatever the test does, dbwatch itself must not fail."""
    start_anew()
    engines._creations.clear()
    listeners = list(FOUND._listeners)
    numbers = Numbers()
    yield numbers
    FOUND._listeners[:] = listeners
    assert numbers("dbwatch_internal_errors_total") == 0


@pytest.fixture(scope="session")
def shop_server(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """The PostgreSQL of the run with a database for the shop, filled."""
    engine = create_engine(postgres.url("psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE findings"))
    engine.dispose()
    create_shop(postgres.url("psycopg", "findings"))
    return postgres


@pytest.fixture
def shop_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """The URL of the shop's tables, by the name of a database and driver."""

    def url(name: str) -> str:
        if name.startswith("postgres"):
            server: EmbeddedPostgres = request.getfixturevalue("shop_server")
            return f"{database_url(name, tmp_path, server).removesuffix('/postgres')}/findings"
        if name.startswith("mariadb"):
            mariadb: MariaDB = request.getfixturevalue("mariadb")
            return mariadb.url(name.partition("-")[2])  # without the shop's tables
        if not (tmp_path / "test.db").exists():
            create_shop(database_url("sqlite-pysqlite", tmp_path, None))
        return database_url(name, tmp_path, None)

    return url


class StageApp(Protocol):
    """Builds an app on a database and serves it: ``with stage("postgres-psycopg", build) as visitor:``."""

    def __call__(
        self, database: str, *builds: Build, loop: Loop = "asyncio", **options: Any
    ) -> AbstractContextManager[Visitor]: ...


@pytest.fixture
def stage(shop_url: Callable[[str], str]) -> StageApp:
    """Serves apps under a real uvicorn."""

    @contextmanager
    def on(database: str, *builds: Build, loop: Loop = "asyncio", **options: Any) -> Iterator[Visitor]:
        set_up = Stage(database, shop_url(database), **options)
        for build in builds:
            build(set_up)
        with serve(set_up, loop=loop) as url, Visitor(url, set_up) as visitor:
            yield visitor

    return on
