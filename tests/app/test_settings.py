import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import dbwatch
from dbwatch import ConfigurationError, DBWatchMiddleware
from dbwatch.settings import Options, Settings
from tests.app.calls import Receive, Scope, Send, call
from tests.app.middlewares import Query
from tests.app.scrape import counted

HERE = str(Path(__file__).parent)
STATE_DIR = str(Path(tempfile.gettempdir()) / "dbwatch-state")
ROOT = Path(__file__).parents[2]


def note(finding: dbwatch.Finding) -> None: ...


#: Option, a value that is not the default, and the same in the environment (None: has no environment variable).
VALUES: list[tuple[str, Any, str | None]] = [
    ("enabled", False, "no"),
    ("registry", CollectorRegistry(), None),
    ("metrics_path", "/internal/metrics", "/internal/metrics"),
    ("metrics_path", None, "none"),
    ("exclude", ("/ping", "/internal/*"), " /ping, /internal/* "),
    ("exclude", (), ""),
    ("app_root", HERE, HERE),
    ("idle_hold_seconds", 2.5, "2.5"),
    ("repeated_statements", 3, "3"),
    ("slow_checkout_seconds", 0.25, "0.25"),
    ("on_finding", note, None),
    ("server_timing", True, "on"),
    ("slow_request_seconds", 3.0, "3"),
    ("dashboard", "/dbwatch", "/dbwatch"),
    ("dashboard_auth", ("operator", "a:b"), "operator:a:b"),
    ("state_dir", STATE_DIR, STATE_DIR),
    ("opentelemetry", False, "off"),
    ("readiness_path", "/readyz", "/readyz"),
    ("server_limits", True, "1"),
    ("ignore_advice", ("no_pre_ping", "long_timeout"), "no_pre_ping, long_timeout"),
]
IN_ENVIRONMENT = [(name, value, text) for name, value, text in VALUES if text is not None]


@pytest.fixture(autouse=True)
def options_of_the_process() -> Iterator[None]:
    """Some options hold for the process; put the defaults back."""
    yield
    DBWatchMiddleware(nothing)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None: ...


def test_every_option_is_tried_here() -> None:
    names = {field.name for field in fields(Settings)}
    assert {name for name, _, _ in VALUES} == names == set(Options.__annotations__)
    assert {name for name, _, _ in IN_ENVIRONMENT} == names - {"registry", "on_finding"}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, value, _ in VALUES], ids=[name for name, _, _ in VALUES]
)
def test_an_option_is_given_by_keyword(name: str, value: Any) -> None:
    settings = DBWatchMiddleware(nothing, **{name: value}).settings
    assert getattr(settings, name) == value
    assert getattr(settings, name) != getattr(Settings(), name)


@pytest.mark.parametrize(("name", "value", "text"), IN_ENVIRONMENT, ids=[name for name, _, _ in IN_ENVIRONMENT])
def test_an_option_is_given_by_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: Any, text: str) -> None:
    monkeypatch.setenv(f"DBWATCH_{name.upper()}", text)
    assert getattr(DBWatchMiddleware(nothing).settings, name) == value


def test_a_keyword_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBWATCH_METRICS_PATH", "/from-environment")
    assert DBWatchMiddleware(nothing, metrics_path="/from-keyword").settings.metrics_path == "/from-keyword"


def test_a_list_is_as_good_as_any_iterable() -> None:
    assert DBWatchMiddleware(nothing, exclude=["/a"]).settings.exclude == ("/a",)
    assert DBWatchMiddleware(nothing, exclude=iter(["/a", "/b/*"])).settings.exclude == ("/a", "/b/*")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("enabled", "yes", "True or False"),
        ("enabled", 1, "True or False"),
        ("enabled", None, "True or False"),
        ("registry", "default", "CollectorRegistry"),
        ("registry", CollectorRegistry, "CollectorRegistry"),
        ("metrics_path", "metrics", "begins with '/'"),
        ("metrics_path", "/metrics?all", "begins with '/'"),
        ("metrics_path", True, "begins with '/'"),
        ("exclude", "/health", "a list of paths"),
        ("exclude", ["health"], "a list of paths"),
        ("exclude", [None], "a list of paths"),
        ("exclude", 7, "a list of paths"),
        ("app_root", "/there/is/no/such/directory", "existing directory"),
        ("app_root", None, "existing directory"),
        ("idle_hold_seconds", 0, "above 0"),
        ("idle_hold_seconds", -1.0, "above 0"),
        ("idle_hold_seconds", "1", "above 0"),
        ("idle_hold_seconds", float("nan"), "above 0"),
        ("idle_hold_seconds", True, "above 0"),
        ("repeated_statements", 1, "from 2 up"),
        ("repeated_statements", 2.5, "from 2 up"),
        ("slow_checkout_seconds", 0.0, "above 0"),
        ("slow_checkout_seconds", None, "above 0"),
        ("on_finding", "print", "a function"),
        ("server_timing", "on", "True or False"),
        ("slow_request_seconds", 0, "above 0"),
        ("ignore_advice", "no_pre_ping", "a list of names out of no_pre_ping, "),
        ("ignore_advice", ["pre_ping"], "a list of names out of no_pre_ping, "),
        ("ignore_advice", 5, "a list of names out of no_pre_ping, "),
    ],
)
def test_a_wrong_value_is_refused_with_option_value_and_what_is_allowed(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        DBWatchMiddleware(nothing, **{name: value})
    message = str(refused.value)
    assert message.startswith(f"dbwatch: {name} is {value!r}; ")
    assert allowed in message


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("enabled", "perhaps", "1/0"),
        ("enabled", "", "1/0"),
        ("metrics_path", "metrics", "begins with '/'"),
        ("exclude", "/a,b", "by commas"),
        ("app_root", "/there/is/no/such/directory", "existing directory"),
        ("idle_hold_seconds", "half a second", "above 0"),
        ("idle_hold_seconds", "nan", "above 0"),
        ("repeated_statements", "10.5", "from 2 up"),
        ("slow_checkout_seconds", "-1", "above 0"),
        ("server_timing", "2", "True or False"),
        ("slow_request_seconds", "soon", "above 0"),
    ],
)
def test_a_wrong_environment_variable_is_refused_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, allowed: str
) -> None:
    variable = f"DBWATCH_{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError) as refused:
        DBWatchMiddleware(nothing)
    message = str(refused.value)
    assert message.startswith(f"dbwatch: {variable} is {text!r}; ")
    assert allowed in message


def test_an_unknown_option_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'metric_path'. Did you mean 'metrics_path'\?") as refused:
        DBWatchMiddleware(nothing, metric_path="/m")  # type: ignore[call-arg]
    for field in fields(Settings):
        assert field.name in str(refused.value)


def test_a_wrong_option_is_found_when_the_app_starts_and_not_at_a_request() -> None:
    app = Starlette()
    app.add_middleware(DBWatchMiddleware, metrics_path="metrics")
    with pytest.raises(ConfigurationError):
        app.build_middleware_stack()


@pytest.fixture
def app(query: Query) -> Callable[..., Starlette]:
    """Makes an app whose every path takes a connection."""

    async def endpoint(request: Request) -> PlainTextResponse:
        await query()
        return PlainTextResponse("watched" if dbwatch.current_request() else "not watched")

    def make(**options: Any) -> Starlette:
        app = Starlette(routes=[Route("/{path:path}", endpoint)])
        app.add_middleware(DBWatchMiddleware, **{"metrics_path": None, **options})
        return app

    return make


@pytest.mark.parametrize(
    ("path", "watched"),
    [
        ("/ping", False),
        ("/ping/", True),
        ("/ping/deep", True),
        ("/pin", True),
        ("/internal/a", False),
        ("/internal/a/b", False),
        ("/internal/", False),
        ("/internal", True),
        ("/internals", True),
        ("/health", True),
    ],
)
async def test_excluded_paths_are_exact_or_everything_below(
    app: Callable[..., Starlette], path: str, *, watched: bool
) -> None:
    shop = app(exclude=["/ping", "/internal/*"])
    assert (await call(shop, path)).text == ("watched" if watched else "not watched")
    assert (await call(shop, f"/api{path}", root_path="/api")).text == ("watched" if watched else "not watched")
    assert bool(counted().routes()) == watched


@pytest.mark.parametrize("path", ["/health", "/healthz", "/livez", "/readyz", "/ready"])
async def test_health_checks_are_excluded_by_default(app: Callable[..., Starlette], path: str) -> None:
    assert (await call(app(), path)).text == "not watched"


async def test_an_excluded_request_still_shows_in_the_pool(app: Callable[..., Starlette]) -> None:
    await call(app(), "/health")
    assert counted().value("dbwatch_hold_seconds_count", pool="shop") == 1


DISABLED = """
import asyncio, sys
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import Pool, QueuePool
from sqlalchemy.util.queue import Queue
from prometheus_client import REGISTRY

def attached(engine):
    events = ("checkout", "checkin", "connect", "close", "reset", "detach", "invalidate")
    return [
        Pool.connect, Queue.get, Engine.__init__, DefaultDialect.do_execute, DefaultDialect.do_commit,
        [list(getattr(engine.pool.dispatch, name)) for name in events], list(REGISTRY._collector_to_names),
    ]

engine = create_engine("sqlite://", poolclass=QueuePool)
before = attached(engine)
from dbwatch import DBWatchMiddleware
seen = []

async def app(scope, receive, send):
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    seen.append((scope, receive, send))

async def receive(): ...
async def send(message): ...

scope = {"type": "http", "path": "/metrics", "method": "GET", "headers": []}
asyncio.run(DBWatchMiddleware(app, **OPTIONS)(scope, receive, send))
assert attached(engine) == before, "something was hooked"
[(scope_seen, receive_seen, send_seen)] = seen
assert scope_seen is scope and receive_seen is receive and send_seen is send
assert set(scope) == {"type", "path", "method", "headers"}
print("passed through")
"""


@pytest.mark.parametrize(("options", "environment"), [("{'enabled': False}", {}), ("{}", {"DBWATCH_ENABLED": "0"})])
def test_switched_off_the_middleware_hooks_nothing_and_passes_everything_through(
    options: str, environment: dict[str, str]
) -> None:
    program = DISABLED.replace("**OPTIONS", f"**{options}")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("passed through\n", "")


def test_a_thread_engine_is_watched_without_any_web_app(thread_engine: Engine) -> None:
    thread_engine.connect().close()
    assert counted().value("dbwatch_hold_seconds_count", pool="back office") == 1
