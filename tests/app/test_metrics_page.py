import asyncio
import subprocess
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter

from dbwatch import ConfigurationError, DBWatchMiddleware
from dbwatch.catalog import METRICS
from dbwatch.ledger import LEDGER
from tests.app.calls import Answer, call
from tests.app.middlewares import Query
from tests.app.scrape import OPENMETRICS, Scrape, counted
from tests.grafana.programs import prometheus_program
from tests.servers.asgi import serve


@pytest.fixture
def app(query: Query) -> FastAPI:
    app = FastAPI()

    async def endpoint() -> None:
        await query()

    app.add_api_route("/items/{item_id}", endpoint)
    app.add_middleware(DBWatchMiddleware)
    return app


async def page(app: Any, **headers: str) -> Answer:
    answer = await call(app, "/metrics", headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status == 200
    assert answer.messages == ["http.response.start", "http.response.body"]
    assert answer.header("content-length") == str(len(answer.body))
    return answer


async def test_a_scraper_gets_the_text_format_unless_it_asks_for_another(app: FastAPI) -> None:
    await call(app, "/items/7")
    answer = await page(app)
    assert answer.header("content-type").startswith("text/plain; version=")
    scrape = Scrape(answer.text)
    assert scrape.value("dbwatch_request_checkouts_total", route="/items/{item_id}") == 1
    assert scrape.value("dbwatch_hold_seconds_bucket", pool="shop", le="+Inf") == 1


async def test_a_scraper_gets_openmetrics_when_it_asks_for_it(app: FastAPI) -> None:
    await call(app, "/items/7")
    answer = await page(app, accept=f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    assert answer.header("content-type").startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    scrape = Scrape(answer.text, openmetrics=True)
    assert scrape.value("dbwatch_request_checkouts_total", route="/items/{item_id}") == 1
    assert scrape.value("dbwatch_hold_seconds_bucket", pool="shop", le="+Inf") == 1


@pytest.mark.parametrize(("accept", "openmetrics"), [("text/plain", False), (OPENMETRICS, True)])
async def test_every_metric_of_the_catalogue_is_on_the_page_as_it_is_described(
    app: FastAPI, accept: str, *, openmetrics: bool
) -> None:
    await call(app, "/items/7")
    families = Scrape((await page(app, accept=accept)).text, openmetrics=openmetrics).families
    for metric in METRICS.values():
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), sample


async def test_the_page_is_packed_for_who_accepts_gzip(app: FastAPI) -> None:
    plain, packed = await page(app), await page(app, accept_encoding="gzip")
    assert plain.header("content-encoding") == ""
    assert packed.header("content-encoding") == "gzip"
    assert len(packed.body) < len(plain.body) / 3
    assert Scrape(packed.text).families.keys() == Scrape(plain.text).families.keys()


async def test_a_scraper_can_ask_for_some_names_only(app: FastAPI) -> None:
    await call(app, "/items/7")
    answer = await call(app, "/metrics", query="name[]=dbwatch_pool_size&name[]=dbwatch_leaks_total")
    assert set(Scrape(answer.text).families) == {"dbwatch_pool_size", "dbwatch_leaks"}


async def test_head_gets_the_headers_without_the_page(app: FastAPI) -> None:
    answer = await call(app, "/metrics", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.header("content-length")) > 1000


async def test_other_methods_get_what_the_app_says(app: FastAPI) -> None:
    assert (await call(app, "/metrics", "POST")).status == 404


@pytest.mark.parametrize(("path", "root_path"), [("/api/metrics", "/api"), ("/metrics", "/api"), ("/metrics", "")])
async def test_the_path_of_the_page_is_below_the_root_path_of_the_server(
    app: FastAPI, path: str, root_path: str
) -> None:
    assert (await call(app, path, root_path=root_path)).status == 200


@pytest.mark.parametrize("path", ["/metrics/", "/metricsx", "/api/metrics", "/"])
async def test_other_paths_are_not_the_page(app: FastAPI, path: str) -> None:
    assert (await call(app, path)).status == 404


async def test_the_page_has_the_path_it_was_given(query: Query) -> None:
    app = DBWatchMiddleware(FastAPI(), metrics_path="/internal/db")
    assert (await call(app, "/internal/db")).status == 200
    assert (await call(app, "/metrics")).status == 404


async def test_without_a_metrics_path_the_middleware_still_counts(app: FastAPI) -> None:
    app.user_middleware.clear()
    app.add_middleware(DBWatchMiddleware, metrics_path=None)
    assert (await call(app, "/metrics")).status == 404
    await call(app, "/items/7")
    assert counted().routes() == {("GET", "/items/{item_id}"): 1}


async def test_a_registry_of_the_apps_own_is_used_and_no_other(query: Query) -> None:
    registry = CollectorRegistry()
    orders = Counter("orders", "Orders.", registry=registry)
    orders.inc()
    app = DBWatchMiddleware(FastAPI(), registry=registry)
    await query()
    scrape = Scrape((await page(app)).text)
    assert scrape.value("orders_total") == 1
    assert scrape.value("dbwatch_hold_seconds_count", pool="shop") == 1
    assert "python_info" not in scrape.families


async def test_a_registry_that_has_our_names_is_refused_when_the_middleware_is_built() -> None:
    registry = CollectorRegistry()
    Counter("dbwatch_leaks", "Somebody else's.", registry=registry)
    with pytest.raises(ConfigurationError, match=r"already has metrics of our names.*dbwatch_leaks") as refused:
        DBWatchMiddleware(FastAPI(), registry=registry)
    assert "registry=CollectorRegistry()" in str(refused.value)
    Counter("orders", "Still usable.", registry=registry)


async def test_a_name_of_ours_is_refused_to_others_afterwards() -> None:
    registry = CollectorRegistry()
    DBWatchMiddleware(FastAPI(), registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Counter("dbwatch_leaks", "Somebody else's.", registry=registry)


async def test_prometheus_finds_no_fault_with_the_page(app: FastAPI) -> None:
    await call(app, "/items/7")
    ours = [line for line in (await page(app)).text.splitlines() if "dbwatch_" in line]
    assert await asyncio.to_thread(_faults, "\n".join(ours) + "\n") == ""


def _faults(metrics: str) -> str:
    command = [str(prometheus_program("promtool")), "check", "metrics"]
    checked = subprocess.run(command, input=metrics, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked
    return checked.stdout + checked.stderr


async def test_a_failing_collector_of_somebody_else_is_not_hidden(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def collect(self) -> list[Any]:
            raise LookupError("no numbers")

    registry = CollectorRegistry()
    app = DBWatchMiddleware(FastAPI(), registry=registry)
    registry.register(Broken())
    answer = await call(app, "/metrics")
    assert answer.status == 500
    assert answer.header("content-length") == str(len(answer.body))


# The event loop


def _fill(routes: int) -> None:
    for number in range(routes):
        series = LEDGER._route_series(("GET", f"/route-{number}/{{item_id}}"))
        for seconds in (0.001, 0.3, 7.0):
            series.checkout.observe(seconds)
            series.hold.observe(seconds)


async def test_a_scrape_of_200_routes_does_not_hold_up_the_event_loop(app: FastAPI) -> None:
    _fill(200)
    await page(app)
    loop = asyncio.get_running_loop()
    scrape = loop.create_task(page(app, accept_encoding="gzip"))
    longest, turns, last = 0.0, 0, time.perf_counter()
    start = last
    while not scrape.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, turns, last = max(longest, now - last), turns + 1, now
    seconds = time.perf_counter() - start
    assert len(Scrape(scrape.result().text).routes()) == 200
    # Rendered on the loop, the loop would turn once.
    assert turns > 5, (turns, longest, seconds)
    assert longest < 0.15, (turns, longest, seconds)


def test_a_real_server_serves_the_page_to_scrapers_at_once(app: FastAPI) -> None:
    with serve(app) as url, httpx.Client(base_url=url, trust_env=False) as client:
        client.get("/items/7")
        head, get = client.head("/metrics"), client.get("/metrics", headers={"Accept": OPENMETRICS})
    assert (head.status_code, head.content) == (200, b"")
    assert Scrape(get.text, openmetrics=True).value("dbwatch_request_checkouts_total") == 1
