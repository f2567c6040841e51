"""What a request did with the pools stands on its server span, and every finding is an event there."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from sqlalchemy import Engine, QueuePool, create_engine, text
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import dbwatch
from dbwatch import DBWatchMiddleware
from tests.otel.conftest import Exported

Attach = Callable[[FastAPI], None]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}", poolclass=QueuePool, pool_size=1, max_overflow=0)
    dbwatch.watch(engine, name="shop")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (number INTEGER)"))
    yield engine
    engine.dispose()


def shop(engine: Engine) -> FastAPI:
    """An app with a correct route, one that holds its connection idly, and one that leaks."""
    app = FastAPI()
    kept: list[Any] = []
    app.state.kept = kept

    @app.get("/orders/{number}")
    def orders(number: int) -> int:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            return int(connection.scalar(text("SELECT 2")) or 0)

    @app.get("/leak")
    def leak() -> None:
        connection = engine.connect()
        connection.execute(text("SELECT 1"))
        kept.append(connection)

    @app.get("/many")
    def many() -> None:
        with engine.connect() as connection:
            for _ in range(12):
                connection.execute(text("SELECT 1"))

    @app.get("/lost")
    def lost() -> None:
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO orders VALUES (1)"))

    @app.get("/refused", status_code=409)
    def refused() -> None:
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO orders VALUES (1)"))

    @app.get("/plain")
    async def plain() -> None: ...

    return app


def attach(order: str, app: FastAPI, exported: Exported) -> None:
    """Install dbwatch and OpenTelemetry's instrumentation in this order."""
    steps: dict[str, Attach] = {
        "dbwatch": lambda app: app.add_middleware(DBWatchMiddleware, metrics_path=None),
        "opentelemetry": lambda app: FastAPIInstrumentor.instrument_app(
            app, tracer_provider=exported.tracers, meter_provider=exported.meters
        ),
    }
    for name in order.split(", "):
        steps[name](app)


ORDERS = pytest.mark.parametrize("order", ["dbwatch, opentelemetry", "opentelemetry, dbwatch"])


@pytest.fixture
def client(engine: Engine, exported: Exported) -> Iterator[TestClient]:
    app = shop(engine)
    attach("opentelemetry, dbwatch", app, exported)
    with TestClient(app) as client:
        yield client


def ours(span: ReadableSpan) -> dict[str, Any]:
    return {key: value for key, value in (span.attributes or {}).items() if key.startswith("dbwatch.")}


@ORDERS
def test_the_server_span_says_what_the_request_did_in_either_order_of_installation(
    order: str, engine: Engine, exported: Exported
) -> None:
    app = shop(engine)
    attach(order, app, exported)
    with TestClient(app) as client:
        client.get("/orders/7").raise_for_status()
    span = exported.server_span()
    said = ours(span)
    assert said["dbwatch.request.checkouts"] == 1
    assert said["dbwatch.request.statements"] == 2
    assert 0 < said["dbwatch.request.executing"] <= said["dbwatch.request.hold"]
    assert said["dbwatch.request.wait"] == 0
    assert said["dbwatch.request.checkout"] > 0
    assert len(said) == 6
    assert not span.events


def test_a_request_without_a_checkout_says_nothing(client: TestClient, exported: Exported) -> None:
    client.get("/plain").raise_for_status()
    assert not ours(exported.server_span())


def found(exported: Exported) -> list[tuple[ReadableSpan, dict[str, Any]]]:
    """The findings in the traces: the span each is an event on, and its attributes."""
    assert dbwatch.settle(20.0)
    return [
        (span, dict(event.attributes or {}))
        for span in exported.spans()
        for event in span.events
        if event.name == "dbwatch.finding"
    ]


def test_what_was_proven_before_the_response_is_an_event_on_the_server_span(
    client: TestClient, exported: Exported
) -> None:
    client.get("/many").raise_for_status()
    [(span, event)] = found(exported)
    assert span is exported.server_span()
    assert event["dbwatch.finding"] == "repeated_statement"
    assert event["db.client.connection.pool.name"] == "shop"
    assert event["dbwatch.lines"][0].endswith(".many")
    assert event["dbwatch.times"] == 10
    assert "SELECT 1" in event["dbwatch.message"]


def test_what_is_proven_after_the_server_span_has_ended_is_a_span_below_it(
    client: TestClient, exported: Exported
) -> None:
    client.get("/leak").raise_for_status()
    [(span, event)] = found(exported)
    server = exported.server_span()
    assert span.name == "dbwatch leaked_connection"
    assert span.parent == server.context
    assert event["dbwatch.finding"] == "leaked_connection"
    assert "test_spans.py" in event["dbwatch.lines"][0]
    assert event["dbwatch.lines"][0].endswith(".leak")
    assert event["dbwatch.statements"] == 1
    assert 0 < ours(server)["dbwatch.request.hold"] <= event["dbwatch.held_seconds"]
    _give_back(client)


def test_a_write_that_was_rolled_back_on_an_error_is_no_event(client: TestClient, exported: Exported) -> None:
    assert client.get("/refused").status_code == 409
    assert not found(exported)
    client.get("/lost").raise_for_status()
    [(_span, event)] = found(exported)
    assert event["dbwatch.finding"] == "lost_write"


def test_two_requests_each_get_their_own_findings_and_numbers(client: TestClient, exported: Exported) -> None:
    client.get("/orders/7").raise_for_status()
    client.get("/leak").raise_for_status()
    first, second = exported.spans(SpanKind.SERVER)
    [(span, _event)] = found(exported)
    assert span.context.trace_id == second.context.trace_id != first.context.trace_id
    assert ours(first)["dbwatch.request.statements"] == 2
    assert ours(second)["dbwatch.request.statements"] == 1
    _give_back(client)


def test_a_span_that_is_not_sampled_is_left_alone(engine: Engine, exported: Exported) -> None:
    app = shop(engine)
    app.add_middleware(DBWatchMiddleware, metrics_path=None)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    with TestClient(app) as client:
        client.get("/orders/7").raise_for_status()
    assert not exported.spans(SpanKind.SERVER)
    assert exported.value("dbwatch.request.hold") == 1


def test_the_spans_that_fastapi_itself_makes_are_as_good(engine: Engine, exported: Exported) -> None:
    pytest.importorskip("fastapi.telemetry", reason="this FastAPI makes no spans")
    app = shop(engine)
    app.add_middleware(DBWatchMiddleware, metrics_path=None)
    with TestClient(app) as client:
        client.get("/orders/7").raise_for_status()
        client.get("/leak").raise_for_status()
        assert len(found(exported)) == 1
        _give_back(client)
    first, second = exported.spans(SpanKind.SERVER)
    assert ours(first)["dbwatch.request.statements"] == 2
    assert ours(second)["dbwatch.request.statements"] == 1


@pytest.mark.parametrize("order", ["dbwatch outside", "dbwatch inside"])
def test_the_span_of_a_middleware_of_starlette_is_found_in_either_order(
    order: str, engine: Engine, exported: Exported
) -> None:
    module = pytest.importorskip("starlette.middleware.opentelemetry", reason="this Starlette makes no spans")

    def orders(_request: Request) -> PlainTextResponse:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        return PlainTextResponse("fine")

    middlewares = [
        Middleware(DBWatchMiddleware, metrics_path=None),
        Middleware(module.OpenTelemetryMiddleware, tracer_provider=exported.tracers),
    ]
    if order == "dbwatch inside":
        middlewares.reverse()
    app = Starlette(routes=[Route("/orders", orders)], middleware=middlewares)
    with TestClient(app) as client:
        client.get("/orders").raise_for_status()
    assert ours(exported.server_span())["dbwatch.request.statements"] == 1


def test_outside_of_any_span_none_is_made(engine: Engine, exported: Exported) -> None:
    def leak(_request: Request) -> PlainTextResponse:
        connection = engine.connect()
        connection.execute(text("SELECT 1"))
        kept.append(connection)
        return PlainTextResponse("fine")

    kept: list[Any] = []
    app = Starlette(routes=[Route("/leak", leak)], middleware=[Middleware(DBWatchMiddleware, metrics_path=None)])
    with TestClient(app) as client:
        client.get("/leak").raise_for_status()
    assert dbwatch.findings()
    assert not exported.spans()
    kept.pop().close()


@pytest.fixture
def sqlalchemy_instrumentor() -> Iterator[SQLAlchemyInstrumentor]:
    """The instrumentation of SQLAlchemy; it refuses 2.1, and works there none the less when it is told not to ask."""
    instrumentor = SQLAlchemyInstrumentor()
    yield instrumentor
    instrumentor.uninstrument()


@pytest.mark.parametrize("first", ["dbwatch", "instrumentation"])
def test_beside_the_instrumentation_of_sqlalchemy_nothing_is_counted_twice(
    first: str, tmp_path: Path, exported: Exported, sqlalchemy_instrumentor: SQLAlchemyInstrumentor
) -> None:
    def instrument() -> None:
        sqlalchemy_instrumentor.instrument(
            skip_dep_check=True, tracer_provider=exported.tracers, meter_provider=exported.meters
        )

    if first == "instrumentation":
        instrument()
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'shop.db'}", poolclass=QueuePool)
    dbwatch.watch(engine, name="shop")
    if first == "dbwatch":
        sqlalchemy_instrumentor.instrument(
            skip_dep_check=True, engine=engine, tracer_provider=exported.tracers, meter_provider=exported.meters
        )
    app = shop(engine)
    attach("dbwatch, opentelemetry", app, exported)
    with TestClient(app) as client:
        client.get("/orders/7").raise_for_status()

    theirs = exported.metrics("opentelemetry.instrumentation.sqlalchemy")
    assert theirs, "the instrumentation must have been at work"
    assert not set(theirs) & set(exported.metrics())
    assert exported.value("db.client.connection.use_time") == 1
    assert exported.value("dbwatch.request.statements") == 2
    named = [span.name for span in exported.spans() if span.kind is SpanKind.CLIENT]
    assert sorted(named) == sorted(["connect", *(name for name in named if name.startswith("SELECT"))])
    assert len(named) == 3
    assert all(not ours(span) for span in exported.spans() if span.kind is not SpanKind.SERVER)
    assert ours(exported.server_span())["dbwatch.request.checkouts"] == 1
    engine.dispose()


def test_an_instrumentation_that_refuses_this_sqlalchemy_leaves_dbwatch_at_work(
    engine: Engine, exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    if sqlalchemy.__version__ < "2.1":
        pytest.skip("the instrumentation accepts this SQLAlchemy")
    with caplog.at_level(logging.ERROR):
        SQLAlchemyInstrumentor().instrument(engine=engine)
    assert "nothing can be instrumented" in caplog.text
    app = shop(engine)
    attach("dbwatch, opentelemetry", app, exported)
    with TestClient(app) as client:
        client.get("/orders/7").raise_for_status()
    assert ours(exported.server_span())["dbwatch.request.statements"] == 2


async def test_the_span_of_a_stream_says_what_was_held_to_its_end(engine: Engine, exported: Exported) -> None:
    from fastapi.responses import StreamingResponse

    app = shop(engine)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            with engine.connect() as connection:
                for row in connection.execute(text("SELECT 1 UNION ALL SELECT 2")):
                    yield f"{row[0]}\n"

        return StreamingResponse(rows())

    attach("opentelemetry, dbwatch", app, exported)
    with TestClient(app) as client:
        assert client.get("/stream").text == "1\n2\n"
    said = ours(exported.server_span())
    assert said["dbwatch.request.checkouts"] == said["dbwatch.request.statements"] == 1
    assert said["dbwatch.request.hold"] > 0


def _give_back(client: TestClient) -> None:
    app: Any = client.app
    for connection in app.state.kept:
        connection.close()
