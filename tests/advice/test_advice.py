"""``dbwatch.advice()``: the page's own arithmetic, without a page."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, QueuePool, create_engine, text

import dbwatch
from dbwatch import runtime
from dbwatch.facts import PoolAdvice
from dbwatch.outputs.live import sampler
from dbwatch.outputs.live.sizing import ENOUGH_SAMPLES


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}", poolclass=QueuePool, pool_size=2, max_overflow=5)
    dbwatch.watch(engine, name=tmp_path.name)
    yield engine
    engine.dispose()


@pytest.fixture
def advised(engine: Engine, tmp_path: Path) -> Callable[[], PoolAdvice]:
    """The advice on the engine of this test."""

    def ask() -> PoolAdvice:
        (found,) = [advice for advice in dbwatch.advice() if advice.pool == tmp_path.name]
        return found

    return ask


def test_the_first_call_begins_to_sample_and_says_for_how_long_to_wait(
    engine: Engine, advised: Callable[[], PoolAdvice], tmp_path: Path
) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        advice = advised()
    assert (advice.action, advice.size, advice.limit) == ("wait", None, None)
    assert f"Advice comes after {ENOUGH_SAMPLES} s of samples" in advice.text
    assert "p99 of used + waiters" in advice.arithmetic


def test_the_size_is_advised_from_the_samples_by_the_code_of_the_live_page(
    engine: Engine, advised: Callable[[], PoolAdvice], tmp_path: Path
) -> None:
    advised()
    watching = sampler.sampler_of_this_process(runtime._LIVE_SOURCE)
    with engine.connect(), engine.connect(), engine.connect():
        start = watching._reporter._history.pools[tmp_path.name].samples[-1].at
        for second in range(1, ENOUGH_SAMPLES + 1):
            watching._sample(float(start + second))
        advice = advised()
    assert (advice.action, advice.size, advice.limit) == ("raise", 3, 3)
    assert advice.text.startswith("Raise to pool_size=3, max_overflow=0: 99 % of the time 3 are enough, the size is 2.")


def test_remarks_on_the_settings_come_with_it(
    engine: Engine, advised: Callable[[], PoolAdvice], tmp_path: Path
) -> None:
    names = {remark.name for remark in advised().remarks}
    assert names == {"long_timeout", "more_threads_than_connections", "more_overflow_than_size"}
