import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import httpx
import psutil
import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine, text

from demo_app.app import create_app
from demo_app.models import Base
from demo_app.postgres import EmbeddedPostgres
from demo_app.settings import Settings
from tests.servers.asgi import serve


class EmptyDatabase(Protocol):
    """Returns the URL of a PostgreSQL database without tables; for one name always the same one, emptied."""

    def __call__(self, name: str = "shop") -> str: ...


@pytest.fixture(scope="session")
def empty_database(postgres: EmbeddedPostgres) -> EmptyDatabase:
    made = set()

    def empty(name: str = "shop") -> str:
        url = postgres.url(database=name)
        if name in made:  # Creating a database takes ten times as long.
            engine = create_engine(url)
            Base.metadata.drop_all(engine)
        else:
            engine = create_engine(postgres.url(), isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            made.add(name)
        engine.dispose()
        return url

    return empty


@pytest.fixture(params=["postgresql", "sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind that the demo runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    empty: EmptyDatabase = request.getfixturevalue("empty_database")
    return empty()


@pytest.fixture(params=["/sync", "/async"])
def shop(request: pytest.FixtureRequest, database_url: str) -> Iterator[httpx.Client]:
    """A client of each set of endpoints, on each kind of database, with nothing but the seed data in it."""
    with serve(shop_app(database_url)) as url, client(url + request.param) as shop:
        yield shop


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def _standing_shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database_url = f"sqlite:///{tmp_path_factory.mktemp('shop') / 'shop.db'}"
    if request.param == "postgresql":
        database_url = request.getfixturevalue("empty_database")("standing_shop")
    with serve(shop_app(database_url)) as url:
        yield url


@pytest.fixture(params=["/sync", "/async"])
def standing_shop(request: pytest.FixtureRequest, _standing_shop: str) -> Iterator[httpx.Client]:
    """As ``shop``, but the same for all tests of a module: for tests that change nothing."""
    with client(_standing_shop + request.param) as shop:
        yield shop


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The demo's directory for temporary files: empty, and open to the account of the database server."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def shop_app(database_url: str, **settings: object) -> FastAPI:
    return create_app(Settings.load(database_url=database_url, **settings))


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=30.0, trust_env=False)


def runs(program: psutil.Process) -> bool:
    """Whether it lives; where the first process of a container is no init, orphans that have ended stay as zombies."""
    with suppress(psutil.NoSuchProcess):
        return program.is_running() and program.status() != psutil.STATUS_ZOMBIE
    return False
