"""Who may see the page, asked of the whole middleware, request by request."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from dbwatch import ConfigurationError, DBWatchMiddleware
from dbwatch.outputs.live.access import Scope
from dbwatch.outputs.live.sampler import Sampler
from tests.app.calls import Answer, App, Message, Receive, Send, call
from tests.app.scrape import counted

PATHS = ("/dbwatch", "/dbwatch/", "/dbwatch/api/state", "/dbwatch/api/events", "/dbwatch/page.js", "/dbwatch/no-such")
LOCAL = {"host": "localhost:8000"}


async def _endpoint(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("the app's")


def app_with(client: str = "127.0.0.1", **options: Any) -> App:
    """An app whose clients come from one address."""
    inner = Starlette(routes=[Route("/", _endpoint), Route("/dbwatchful", _endpoint)])
    watched = DBWatchMiddleware(inner, metrics_path=None, **options)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["client"] = (client, 50000) if client else None
        await watched(scope, receive, send)

    return app


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("client", ["192.0.2.7", "10.0.0.1", "::ffff:192.0.2.7", "2001:db8::1", "testclient", ""])
async def test_another_address_gets_403_and_nothing_else(path: str, client: str) -> None:
    answer = await call(app_with(client, dashboard="/dbwatch"), path, headers=LOCAL)
    assert (answer.status, answer.body) == (403, b"")
    assert not answer.header("location")


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_is_let_in(client: str) -> None:
    answer = await call(app_with(client, dashboard="/dbwatch"), "/dbwatch/", headers=LOCAL)
    assert answer.status == 200
    assert "<title>dbwatch</title>" in answer.text


@pytest.mark.parametrize("header", ["x-forwarded-for", "X-Forwarded-Host", "forwarded", "x-real-ip", "via"])
async def test_a_proxy_on_this_machine_does_not_make_its_clients_local(header: str) -> None:
    answer = await call(app_with(dashboard="/dbwatch"), "/dbwatch/", headers={**LOCAL, header: "127.0.0.1"})
    assert answer.status == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("shop.localhost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example.org", 403),
        ("localhost.evil.example.org", 403),
        ("192.0.2.7:8000", 403),
        ("", 403),
    ],
)
async def test_a_foreign_name_that_leads_to_this_machine_is_refused(host: str, status: int) -> None:
    answer = await call(app_with(dashboard="/dbwatch"), "/dbwatch/", headers={"host": host})
    assert answer.status == status


async def test_user_and_password_let_in_from_anywhere_and_are_asked_of_everybody() -> None:
    options = {"dashboard": "/dbwatch", "dashboard_auth": ("operator", "s3cret:é")}
    for client in ("192.0.2.7", "127.0.0.1"):
        app = app_with(client, **options)
        assert (await call(app, "/dbwatch/", headers=basic("operator", "s3cret:é"))).status == 200
        for wrong in (
            {},
            basic("operator", "s3cret"),
            basic("", ""),
            {"authorization": "Basic !"},
            {"authorization": "Bearer x"},
        ):
            answer = await call(app, "/dbwatch/api/state", headers=wrong)
            assert (answer.status, answer.body) == (401, b"")
            assert answer.header("www-authenticate").startswith("Basic ")


def _by_header(scope: Scope) -> bool:
    return (b"x-team", b"operators") in scope["headers"]


async def _by_header_later(scope: Scope) -> bool:
    return _by_header(scope)


def _failing(scope: Scope) -> bool:
    raise RuntimeError("the session store is down")


@pytest.mark.parametrize("decide", [_by_header, _by_header_later])
async def test_the_app_s_own_function_decides(decide: Callable[[Scope], Any]) -> None:
    app = app_with("192.0.2.7", dashboard="/dbwatch", dashboard_auth=decide)
    assert (await call(app, "/dbwatch/", headers={"x-team": "operators"})).status == 200
    assert (await call(app, "/dbwatch/", headers={"x-team": "visitors"})).status == 403


@pytest.mark.parametrize("decide", [_failing, lambda _scope: "yes", lambda _scope: None])
async def test_whatever_is_not_a_plain_yes_keeps_everybody_out(decide: Callable[[Scope], Any]) -> None:
    app = app_with(dashboard="/dbwatch", dashboard_auth=decide)
    assert (await call(app, "/dbwatch/", headers=LOCAL)).status == 403


@pytest.mark.parametrize("path", PATHS)
async def test_with_the_page_off_no_path_of_it_exists(path: str) -> None:
    bare = Starlette(routes=[Route("/", _endpoint)])
    expected = await call(bare, path, headers=LOCAL)
    answer = await call(app_with(), path, headers=LOCAL)
    assert (answer.status, answer.body, answer.headers) == (expected.status, expected.body, expected.headers)
    assert answer.status == 404


async def test_paths_that_merely_begin_alike_are_the_app_s() -> None:
    answer = await call(app_with("192.0.2.7", dashboard="/dbwatch"), "/dbwatchful")
    assert answer.text == "the app's"


async def test_only_reading_is_allowed() -> None:
    app = app_with(dashboard="/dbwatch")
    assert (await call(app, "/dbwatch/api/state", "POST", headers=LOCAL)).status == 405
    head = await call(app, "/dbwatch/", "HEAD", headers=LOCAL)
    assert (head.status, head.body) == (200, b"")
    stream = await call(app, "/dbwatch/api/events", "HEAD", headers=LOCAL)  # ends, as the stream itself does not
    assert (stream.status, stream.body) == (200, b"")
    assert stream.header("content-type") == "text/event-stream"


async def test_below_a_root_path_the_page_leads_to_itself() -> None:
    answer = await call(app_with(dashboard="/ops/dbwatch"), "/shop/ops/dbwatch", root_path="/shop", headers=LOCAL)
    assert (answer.status, answer.header("location")) == (307, "dbwatch/")


async def test_every_answer_carries_a_policy_without_inline_scripts_or_foreign_origins() -> None:
    app = app_with(dashboard="/dbwatch")
    answers: list[Answer] = [await call(app, path, headers=LOCAL) for path in PATHS if "events" not in path]
    for answer in answers:
        policy = answer.header("content-security-policy")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.header("cache-control") == "no-store"
        assert answer.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dashboard": "dbwatch"}, "'dbwatch'"),
        ({"dashboard": "/"}, "'/'"),
        ({"state_dir": "relative", "dashboard": "/dbwatch"}, "absolute path"),
        ({"state_dir": "/proc/no-such/state", "dashboard": "/dbwatch"}, "cannot be used"),
    ],
)
def test_wrong_options_are_refused_when_the_middleware_is_built(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        app_with(**options)


@pytest.mark.parametrize("auth", [("", "pw-hunter2"), ("a:b", "pw-hunter2"), "user:pw-hunter2", ["u", "pw-hunter2"]])
def test_wrong_credentials_are_refused_without_repeating_them(auth: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        app_with(dashboard_auth=auth)
    assert "dashboard_auth" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_the_password_is_not_in_the_settings_as_text() -> None:
    middleware = DBWatchMiddleware(Starlette(), dashboard_auth=("operator", "hunter2"))
    assert "hunter2" not in repr(middleware.settings)


async def test_a_client_that_is_gone_is_no_error_of_ours() -> None:
    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    async def broken(_message: Message) -> None:
        raise OSError("the client is gone")

    app = DBWatchMiddleware(Starlette(), dashboard="/dbwatch")
    scope = {"type": "http", "method": "GET", "path": "/dbwatch/", "headers": [(b"host", b"localhost")]}
    before = counted().sum("dbwatch_internal_errors_total", site="live.page")
    await app({**scope, "client": ("127.0.0.1", 1)}, nothing, broken)
    assert counted().sum("dbwatch_internal_errors_total", site="live.page") == before


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(TimeoutError("no sample"), 503, b"no state to show yet"), (RuntimeError("ours"), 500, b"dbwatch failed here")],
)
async def test_an_error_of_ours_is_counted_and_said_on_the_page(
    error: Exception, status: int, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_sampler: Sampler, *, wants_all: bool) -> None:
        raise error

    monkeypatch.setattr(Sampler, "next", fail)
    before = counted().sum("dbwatch_internal_errors_total", site="live.page")
    answer = await call(app_with(dashboard="/dbwatch"), "/dbwatch/api/state", headers=LOCAL)
    assert answer.status == status
    assert said in answer.body
    assert counted().sum("dbwatch_internal_errors_total", site="live.page") == before + 1
