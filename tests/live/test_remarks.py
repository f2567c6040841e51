from typing import Any

import pytest

from dbwatch.outputs.live.document import Remark
from dbwatch.outputs.live.remarks import remarks

POSTGRES = {
    "pool_class": "QueuePool",
    "dialect": "postgresql",
    "driver": "psycopg",
    "server": "db:5432",
    "pre_ping": "true",
    "recycle": "1800",
}


def about(setting: str, attributes: dict[str, str] | None = None, **given: Any) -> list[Remark]:
    facts: dict[str, Any] = {"size": 20, "limit": 40, "timeout": 5.0, "workers": 1, **given}
    return [one for one in remarks({**POSTGRES, **(attributes or {})}, **facts) if one["setting"] == setting]


def test_a_sound_configuration_has_no_remarks() -> None:
    assert remarks(POSTGRES, size=20, limit=40, timeout=5.0, workers=1) == []


def test_pre_ping_off_is_a_warning_but_not_for_a_database_in_a_file() -> None:
    assert [one["level"] for one in about("pool_pre_ping", {"pre_ping": "false"})] == ["warning"]
    assert not about("pool_pre_ping", {"pre_ping": "false", "server": "(local)"})


@pytest.mark.parametrize(("timeout", "words"), [(30.0, "of 30 s is longer"), (None, "never ends")])
def test_a_wait_longer_than_clients_have_patience_is_a_warning(timeout: float | None, words: str) -> None:
    (remark,) = about("pool_timeout", timeout=timeout)
    assert words in remark["text"]
    assert not about("pool_timeout", timeout=10.0)


def test_the_limits_of_all_workers_are_held_against_what_the_server_allows_as_delivered() -> None:
    (much,) = about("limit", workers=3)
    assert (much["level"], much["text"].split(",")[0]) == ("warning", "3 workers x 40 = 120 connections")
    (little,) = about("limit", workers=2)
    assert little["level"] == "ok"


def test_more_threads_than_connections_is_said_of_sync_engines_only() -> None:
    (remark,) = about("limit", size=5, limit=15)
    assert "up to 25 of them can wait" in remark["text"]
    assert not about("limit", {"pool_class": "AsyncAdaptedQueuePool"}, size=5, limit=15)


def test_a_pool_without_a_limit_and_one_that_does_not_pool_are_warnings() -> None:
    assert about("max_overflow", limit=None)[0]["level"] == "warning"
    assert about("poolclass", {"pool_class": "NullPool"}, limit=None, timeout=0.0)[0]["level"] == "warning"


def test_more_overflow_than_size_is_remarked() -> None:
    (remark,) = about("max_overflow", size=5, limit=45)
    assert "More overflow (40) than size (5)" in remark["text"]
