"""Each remark has a configuration in which it appears and one, as close as can be, in which it does not."""

from typing import Any

import pytest

from dbwatch.outputs.live.remarks import Configuration, remarks
from dbwatch.outputs.live.startup import risks
from dbwatch.settings import ADVICE

POSTGRES = {
    "pool_class": "QueuePool",
    "dialect": "postgresql",
    "driver": "psycopg",
    "server": "db:5432",
    "pre_ping": "true",
    "recycle": "1800",
}
MARIADB = {**POSTGRES, "dialect": "mariadb", "driver": "pymysql", "pre_ping": "false"}
IN_A_FILE = {**POSTGRES, "dialect": "sqlite", "driver": "pysqlite", "server": "(local)", "pre_ping": "false"}


def configuration(attributes: dict[str, str] = POSTGRES, **given: Any) -> Configuration:
    return Configuration(attributes, **{"size": 20, "limit": 40, "timeout": 5.0, **given})


def test_a_sound_configuration_has_no_remarks() -> None:
    assert remarks(configuration()) == []


#: The name of a remark, its level, a configuration with it, and one without.
CASES = [
    ("no_pre_ping", "warning", configuration({**POSTGRES, "pre_ping": "false"}), configuration(IN_A_FILE)),
    ("more_than_server_allows", "warning", configuration(workers=3), configuration(workers=3, server_allows=120)),
    ("more_than_server_allows", "warning", configuration(server_allows=39), configuration(server_allows=40)),
    ("share_of_server", "ok", configuration(workers=2), configuration(workers=1)),
    ("long_timeout", "warning", configuration(timeout=60.0), configuration(timeout=10.0)),
    ("long_timeout", "warning", configuration(timeout=None), configuration(timeout=0.0)),
    ("long_timeout", "ok", configuration(timeout=30.0), configuration(timeout=10.0)),
    ("more_threads_than_connections", "warning", configuration(size=5, limit=15), configuration(size=40, limit=40)),
    (
        "more_threads_than_connections",
        "warning",
        configuration(size=15, limit=15, threads=16),
        configuration(size=15, limit=15, threads=15),
    ),
    (
        "more_threads_than_connections",
        "warning",
        configuration(size=5, limit=15),
        configuration({**POSTGRES, "pool_class": "AsyncAdaptedQueuePool"}, size=5, limit=15),
    ),
    ("more_threads_than_connections", "ok", configuration(IN_A_FILE, size=5, limit=15), configuration(IN_A_FILE)),
    (
        "null_pool",
        "warning",
        configuration({**POSTGRES, "pool_class": "NullPool"}, size=0, limit=None, timeout=0.0),
        configuration({**POSTGRES, "pool_class": "StaticPool"}, size=1, limit=1, timeout=0.0),
    ),
    ("unlimited_overflow", "warning", configuration(limit=None), configuration(limit=40)),
    ("more_overflow_than_size", "ok", configuration(size=5, limit=45), configuration(size=20, limit=40)),
    (
        "recycle_above_idle_timeout",
        "warning",
        configuration({**MARIADB, "recycle": "-1"}),
        configuration({**MARIADB, "recycle": "28799"}),
    ),
    (
        "recycle_above_idle_timeout",
        "warning",
        configuration(MARIADB, server_idle_seconds=600),
        configuration({**MARIADB, "recycle": "599"}, server_idle_seconds=600),
    ),
    (
        "recycle_above_idle_timeout",
        "warning",
        configuration({**MARIADB, "recycle": "-1"}),
        configuration({**MARIADB, "recycle": "-1", "pre_ping": "true"}),
    ),
    (
        "no_recycle",
        "ok",
        configuration({**POSTGRES, "recycle": "-1", "pre_ping": "false"}),
        configuration({**POSTGRES, "recycle": "-1"}),
    ),
]


@pytest.mark.parametrize(("name", "level", "risky", "sound"), CASES)
def test_a_remark_appears_where_it_is_true_and_not_where_it_is_not(
    name: str, level: str, risky: Configuration, sound: Configuration
) -> None:
    (said,) = [remark for remark in remarks(risky) if remark.name == name]
    assert said.level == level
    assert name not in {remark.name for remark in remarks(sound)}


def test_every_remark_has_a_name_that_can_be_silenced() -> None:
    assert {name for name, *_ in CASES} == set(ADVICE)


@pytest.mark.parametrize(("name", "level", "risky"), [case[:3] for case in CASES if case[1] == "warning"])
def test_a_warning_is_a_risk_until_it_is_silenced(name: str, level: str, risky: Configuration) -> None:
    assert name in {remark.name for remark in risks(risky, (), serves=True)}
    assert name not in {remark.name for remark in risks(risky, (name,), serves=True)}


def test_what_only_concerns_servers_is_not_said_of_a_script() -> None:
    pool = configuration({**POSTGRES, "pre_ping": "false"}, size=5, limit=15, timeout=60.0)
    assert [remark.name for remark in risks(pool, (), serves=False)] == ["no_pre_ping"]


def test_the_numbers_are_said() -> None:
    (workers,) = remarks(configuration(workers=3))
    assert workers.text.startswith("3 workers x 40 = 120 connections, more than PostgreSQL allows as delivered (97)")
    (told,) = remarks(configuration(server_allows=30))
    assert told.text.startswith("40 connections, more than the server allows (30)")
    (threads,) = remarks(configuration(size=8, limit=15))
    assert "run in 40 threads and share 15 connections: up to 25 of them can wait" in threads.text
    (overflow,) = remarks(configuration(size=5, limit=45))
    assert "More overflow (40) than size (5)" in overflow.text
    (timeout,) = remarks(configuration(timeout=31.0))
    assert "of 31 s is longer" in timeout.text
    (endless,) = remarks(configuration(timeout=None))
    assert "never ends" in endless.text
