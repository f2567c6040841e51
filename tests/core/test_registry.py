"""The registry of engines and pools by itself: what they are called, what they are like, when they are forgotten."""

import gc
import math
from typing import Any
from weakref import ref

import pytest
from sqlalchemy import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    Engine,
    NullPool,
    Pool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
    create_engine,
    make_url,
)

from dbwatch.ledger import Ledger
from dbwatch.pools import (
    POOL_ATTRIBUTE,
    POOL_LIMIT,
    POOLS,
    Pools,
    _idle,
    _opened_before,
    current_pool,
    pool_limit,
    pool_size,
    pool_timeout,
    url_name,
)
from dbwatch.records import OTHER, WatchedPool


def unknown(engine: Engine) -> Engine:
    """An engine that no registry knows, not even that of the process, which is asked from other threads as well."""
    POOLS._engines.pop(id(engine), None)
    engine.pool.__dict__.pop(POOL_ATTRIBUTE, None)
    return engine


def an_engine(pool: type[Pool] = QueuePool, url: str = "sqlite://", **options: Any) -> Engine:
    return unknown(create_engine(url, poolclass=pool, **options))


def line(number: int) -> Any:
    return (line.__code__, number)


@pytest.fixture
def registry() -> Pools:
    return Pools(Ledger())


# What pools are like


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (QueuePool, {}, (5, 15, 30.0)),
        (QueuePool, {"pool_size": 2, "max_overflow": 0, "pool_timeout": 1.5}, (2, 2, 1.5)),
        (QueuePool, {"max_overflow": -1}, (5, math.inf, 30.0)),
        (QueuePool, {"pool_timeout": None}, (5, 15, math.inf)),
        (NullPool, {}, (0, math.inf, 0.0)),
        (StaticPool, {}, (1, 1, 0.0)),
        (AssertionPool, {}, (1, 1, 0.0)),
        (SingletonThreadPool, {"pool_size": 7}, (7, math.inf, 0.0)),
    ],
)
def test_size_limit_and_timeout_are_those_of_the_kind_of_pool(
    kind: type[Pool], options: dict[str, Any], expected: tuple[int, float, float], registry: Pools
) -> None:
    engine = an_engine(kind, **options)
    assert (pool_size(engine.pool), pool_limit(engine.pool), pool_timeout(engine.pool)) == expected
    watched = registry.of(engine.pool)
    shared = kind in (StaticPool, SingletonThreadPool)
    assert watched.shared is shared
    assert watched.size == (math.inf if shared or kind is NullPool else expected[0])


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (
            "postgresql+psycopg://u:secret@db.example:6432/shop?sslmode=require",
            "postgresql+psycopg://db.example:6432/shop",
        ),
        ("postgresql://db.example/shop", "postgresql://db.example/shop"),
        ("postgresql://db.example", "postgresql://db.example/"),
        ("postgresql:///shop", "postgresql:///shop"),
        ("postgresql://:6432/shop", "postgresql:///shop"),
        ("sqlite:////data/shop.db", "sqlite:////data/shop.db"),
    ],
)
def test_a_url_gives_a_name_without_user_password_and_query(url: str, name: str) -> None:
    assert url_name(make_url(url)) == name


def test_an_engine_tells_its_configuration_and_a_pool_without_one_what_it_can(registry: Pools) -> None:
    url = "postgresql+psycopg://db.example:6432/shop"
    engine = an_engine(url=url, pool_pre_ping=True, pool_recycle=60)
    registry.add_engine(engine)
    (watched,) = registry.watched()
    assert watched.attributes == {
        "pool_class": "QueuePool",
        "dialect": "postgresql",
        "driver": "psycopg",
        "server": "db.example:6432",
        "pre_ping": "true",
        "recycle": "60",
    }
    assert (watched.name, watched.is_async) == (url, False)
    pool = QueuePool(object)  # type: ignore[arg-type]
    alone = registry.of(pool)
    assert current_pool(alone) is pool
    assert {alone.attributes[name] for name in ("dialect", "driver", "server")} == {""}
    assert (alone.attributes["pre_ping"], alone.attributes["recycle"], alone.is_async) == ("false", "-1", False)
    others = [an_engine(AsyncAdaptedQueuePool, "postgresql+asyncpg://db.example/shop"), an_engine()]
    for other in others:
        registry.add_engine(other)
    found = [registry.of(other.pool) for other in others]
    assert [(one.attributes["server"], one.is_async) for one in found] == [("db.example", True), ("(local)", False)]


def test_what_was_open_before_a_pool_was_watched_is_known(registry: Pools) -> None:
    engine = an_engine()
    with engine.connect(), engine.connect():
        engine.connect().close()
        watched = registry.of(unknown(engine).pool)
        assert (watched.live, watched.out_before) == (3, 2)
    untouched = registry.of(an_engine().pool)
    assert (untouched.live, untouched.out_before) == (0, 0)
    without_a_queue = registry.of(an_engine(NullPool).pool)
    assert (without_a_queue.live, without_a_queue.out_before, _opened_before(an_engine(NullPool).pool)) == (0, 0, 0)


def test_idle_is_what_is_open_and_not_out_and_no_more_than_the_pool_has_places_for(registry: Pools) -> None:
    engine = an_engine()
    with engine.connect(), engine.connect():
        engine.connect().close()
        watched = registry.of(an_engine(NullPool).pool)
        for live, idle in ((3, 1), (2, 0), (1, 0), (9, 1)):
            watched.live = live
            assert _idle(engine.pool, watched, 2) == idle
        watched.live, watched.out_before = 9, 2
        assert _idle(engine.pool, watched, 0) == 1, "what was out before may be out still"
    watched.live, watched.out_before = 2, 0
    assert _idle(an_engine(NullPool).pool, watched, 1) == 1


# Names


def test_a_pool_is_called_as_its_engine_or_as_its_logging_name_or_as_its_class(registry: Pools) -> None:
    engine = an_engine()
    registry.add_engine(engine, name="shop")
    of_engine, disposed = engine.pool, engine.pool.recreate()
    assert registry.of(of_engine).name == "shop"
    assert registry.of(disposed).name == "shop", "the engine's as well, though it has another one"
    assert registry.of(QueuePool(object, logging_name="jobs")).name == "jobs"  # type: ignore[arg-type]
    assert registry.of(QueuePool(object)).name == "QueuePool"  # type: ignore[arg-type]


def test_engines_of_one_url_are_told_apart_by_the_lines_that_made_them_as_far_as_there_are_names(
    registry: Pools,
) -> None:
    engines = [an_engine() for _ in range(POOL_LIMIT + 3)]
    names = []
    for number, engine in enumerate(engines):
        registry.add_engine(engine, line(number))
        names.append(registry.of(engine.pool).name)
    assert names == ["sqlite:///", *(f"sqlite:///#{number + 1}" for number in range(1, POOL_LIMIT)), *[OTHER] * 3]
    again = an_engine()
    registry.add_engine(again, line(1))
    assert registry.of(again.pool).name == "sqlite:///#2"


def test_a_name_that_is_given_up_makes_room_unless_somebody_goes_by_it(registry: Pools) -> None:
    engines = [an_engine() for _ in range(POOL_LIMIT)]
    for number, engine in enumerate(engines):
        registry.add_engine(engine, name=f"pool {number}")
    shares = an_engine()
    registry.add_engine(shares, name="pool 0")
    late = an_engine()
    registry.add_engine(late, name="late")
    assert registry.of(late.pool).name == OTHER
    registry.add_engine(engines[0], name="renamed")
    assert registry.of(engines[0].pool).name == OTHER, "another engine is called pool 0"
    registry.add_engine(engines[1], name="renamed")
    assert registry.of(engines[1].pool).name == "renamed"
    registry.add_engine(engines[1])
    assert registry.of(engines[1].pool).name == "renamed", "what has a name keeps it"


def test_a_name_that_has_series_is_not_given_up(registry: Pools) -> None:
    engines = [an_engine() for _ in range(POOL_LIMIT)]
    for number, engine in enumerate(engines):
        registry.add_engine(engine, name=f"pool {number}")
    registry._ledger.fold()
    registry.add_engine(engines[1], name="renamed")
    assert registry.of(engines[1].pool).name == OTHER


# Finding and forgetting


def test_engines_and_pools_that_are_there_are_found(registry: Pools) -> None:
    engine, alone = an_engine(), an_engine()
    pool = alone.pool.recreate()
    pool.__dict__.pop(POOL_ATTRIBUTE, None)
    registry.scan()
    assert engine in {known for known, _ in registry.engines()}
    assert engine.pool.__dict__[POOL_ATTRIBUTE] in registry.watched()
    assert pool.__dict__[POOL_ATTRIBUTE] in registry.watched()


def test_an_engine_that_is_gone_is_forgotten_and_with_its_pool_whoever_asked_is_told(registry: Pools) -> None:
    gone = list[WatchedPool]()
    registry.when_gone(gone.append)
    engine, stays = an_engine(), an_engine()
    registry.add_engine(engine)
    registry.add_engine(stays)
    watched, key = registry.of(engine.pool), id(stays)
    assert current_pool(watched) is engine.pool
    registry._engine_gone(key)(ref(engine))  # an older one that had the same place in memory
    registry._pool_gone(id(stays.pool))(ref(engine.pool))
    del engine
    gc.collect()
    assert [known for known, _ in registry.engines()] == [stays]
    assert len(registry._engines) == 1
    assert registry.watched() == [registry.of(stays.pool)]
    assert gone == [watched]
    assert current_pool(watched) is None


def test_a_pool_may_go_while_a_forked_child_starts_anew(registry: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [an_engine() for _ in range(3)]
    for number in range(3):
        registry.add_engine(engines[number])

    def post(*_: object) -> None:
        engines.clear()
        gc.collect()

    monkeypatch.setattr(registry._ledger, "post", post)
    registry.start_anew()
    assert len(registry.watched()) < 3


def test_an_engine_that_was_disposed_of_has_another_pool(registry: Pools) -> None:
    engine = an_engine()
    registry.add_engine(engine, name="shop")
    before = registry.of(engine.pool)
    engine.dispose()
    assert current_pool(before) is None
    assert [snapshot.name for snapshot in registry.snapshot()] == ["shop"]
    assert registry.snapshot()[0].size == 5, "of the current pool alone"


def test_a_forked_child_has_none_of_its_parents_checkouts(registry: Pools) -> None:
    engine = an_engine()
    registry.add_engine(engine)
    watched = registry.of(engine.pool)
    watched.live, watched.peak = 7, 3
    watched.open[None] = watched.waiting[None] = None  # type: ignore[index]
    with engine.connect():
        registry.start_anew()
        assert (len(watched.open), len(watched.waiting), watched.peak, watched.live) == (0, 0, 0, 1)
