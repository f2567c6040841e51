"""Engines made after dbwatch was installed, as apps do that build theirs in the lifespan or on first use."""

import inspect
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine

import dbwatch


@pytest.mark.parametrize(
    "options",
    [
        {"echo": False},
        {"echo_pool": False},
        {"execution_options": {"isolation_level": "SERIALIZABLE"}},
        {"hide_parameters": True},
        {"logging_name": "main"},
        {"pool_logging_name": "main"},
        {"query_cache_size": 0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_engine_takes_every_option_after_installation(options: dict[str, Any]) -> None:
    dbwatch.install()
    engine = create_engine("sqlite://", **options)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()
    assert create_async_engine("sqlite+aiosqlite://", **options).name == "sqlite"


def test_an_option_that_no_engine_has_is_refused_as_before() -> None:
    dbwatch.install()
    with pytest.raises(TypeError, match=r"Invalid argument.*'ecko'"):
        create_engine("sqlite://", ecko=True)


def test_the_constructor_of_engines_still_has_its_named_arguments() -> None:
    dbwatch.install()
    arguments = inspect.getfullargspec(Engine.__init__)
    assert {"pool", "dialect", "url", "echo", "execution_options", "hide_parameters"} <= {*arguments.args}
    assert arguments.varkw is None
