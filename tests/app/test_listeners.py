from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, QueuePool, create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import dbwatch
from dbwatch.findings import FOUND


@pytest.fixture
def exhausted(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose only connection is out."""
    engine = create_engine(
        f"sqlite:///{tmp_path / 'empty.db'}", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    dbwatch.watch(engine, name="exhausted")
    with engine.connect():
        yield engine
    engine.dispose()


def test_a_listener_that_needs_the_exhausted_pool_itself_does_not_keep_its_victim_for_ever(exhausted: Engine) -> None:
    calls: list[dbwatch.Finding] = []

    def listen(finding: dbwatch.Finding) -> None:
        calls.append(finding)
        if len(calls) < 20:
            with suppress(PoolTimeoutError):
                exhausted.connect()

    FOUND.subscribe(listen)
    try:
        with pytest.raises(PoolTimeoutError):
            exhausted.connect()
        told_before_the_victim_went_on = len(calls)
    finally:
        FOUND.unsubscribe(listen)
    assert told_before_the_victim_went_on == 1
