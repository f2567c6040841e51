"""What the app takes from its environment."""

import importlib.util
from typing import Any, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

#: By database: the driver of the sync engine and the driver of the async engine.
_DRIVERS = {"postgresql": ("psycopg", "asyncpg"), "sqlite": ("pysqlite", "aiosqlite")}
_EXAMPLES = "postgresql+psycopg://user:password@host:5432/database or sqlite:///demo.db"


class SettingsError(ValueError):
    """A value that the app cannot work with; the message names it and the way out."""


class PoolSettings(BaseSettings):
    """Settings of the pools: each field is an environment variable of the same name in capitals.

    The sync and the async engine each get a pool of ``pool_size`` connections, up to ``max_overflow`` more under load;
    a request that gets none within ``pool_timeout`` seconds fails.
    """

    model_config = SettingsConfigDict(extra="ignore")

    pool_size: int = Field(default=5, ge=1)
    max_overflow: int = Field(default=10, ge=0)
    pool_timeout: float = Field(default=5.0, gt=0)
    pool_pre_ping: bool = True

    @property
    def most_connections(self) -> int:
        """How many connections one process can have open at once, with both engines."""
        return 2 * (self.pool_size + self.max_overflow)

    @classmethod
    def load(cls, **given: Any) -> Self:
        """The given values, and the others from the environment.

        Raises SettingsError with one sentence about the first wrong value.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            problem = error.errors()[0]
            cause = problem.get("ctx", {}).get("error")
            if isinstance(cause, SettingsError):
                raise cause from None
            name = str(problem["loc"][0]).upper()
            raise SettingsError(f"{name}={problem['input']}: {problem['msg'].lower()}.") from None


class Settings(PoolSettings):
    """Settings of the app: the pools, the database, and a scenario with its variant if one is to be served too."""

    database_url: str = Field(validate_default=True, default="")
    scenario: str = Field(default="", validation_alias=AliasChoices("scenario", "DEMO_SCENARIO"))
    scenario_variant: str = Field(default="", validation_alias=AliasChoices("scenario_variant", "DEMO_VARIANT"))

    @field_validator("database_url")
    @classmethod
    def _has_drivers(cls, value: str) -> str:
        engine_urls(value)
        return value

    @property
    def sync_url(self) -> URL:
        """The database by way of the sync driver."""
        return engine_urls(self.database_url)[0]

    @property
    def async_url(self) -> URL:
        """The database by way of the async driver."""
        return engine_urls(self.database_url)[1]


def engine_urls(text: str) -> tuple[URL, URL]:
    """The URLs of the sync and the async engine for one DATABASE_URL. Raises SettingsError if it cannot be used."""
    if not text:
        raise SettingsError(f"DATABASE_URL is not set; set it to {_EXAMPLES}.")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The text itself may hold a password and cannot be taken apart, so it is not repeated.
        raise SettingsError(f"DATABASE_URL is not a database URL; write it like {_EXAMPLES}.") from None
    shown = url.render_as_string(hide_password=True)
    backend, _, driver = url.drivername.partition("+")
    drivers = _DRIVERS.get(backend)
    if drivers is None:
        raise SettingsError(f"DATABASE_URL={shown}: the app does not know the database {backend!r}; use {_EXAMPLES}.")
    if not driver and backend != "sqlite":
        raise SettingsError(f"DATABASE_URL={shown} names no driver; write {backend}+{drivers[0]}:// in front.")
    if driver and driver not in drivers:
        raise SettingsError(
            f"DATABASE_URL={shown}: the app does not know the driver {driver!r}; write {backend}+{drivers[0]}://, "
            f"and the async engine uses {drivers[1]} by itself."
        )
    if backend == "sqlite" and url.database in {None, "", ":memory:"}:
        raise SettingsError(f"DATABASE_URL={shown}: two engines cannot share a database in memory; name a file.")
    for package in drivers:
        if package != "pysqlite" and importlib.util.find_spec(package) is None:
            raise SettingsError(f"DATABASE_URL={shown} needs the package {package}; run `pip install {package}`.")
    sync_url, async_url = (url.set(drivername=f"{backend}+{driver}") for driver in drivers)
    if "sslmode" in async_url.query:  # asyncpg knows the same values by another name.
        async_url = async_url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})
    return sync_url, async_url
