"""The page in a real browser, of a shop with a real database."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.live.conftest import PASSWORD, Shop
from tests.live.hostile import HOSTILE
from tests.live.viewer import Viewer
from tests.servers.waiting import eventually

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")

Look = Callable[..., Viewer]
SHOP = Path(__file__).with_name("shop.py").read_text().splitlines()


def exhaust(shop: Shop, seconds: float = 5.0) -> None:
    """Twelve reports that idle and three searches that execute take all 15 connections; two requests wait."""
    for path in [f"/reports?seconds={seconds}"] * 12 + [f"/search?seconds={seconds}"] * 3:
        shop.ask(path)
    for _ in range(2):
        shop.ask("/products")


@pytest.mark.usefixtures("customers")
def test_the_page_loads_under_load_without_an_error_or_a_foreign_request(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    viewer.wait_for_verdict("Healthy")
    viewer.wait_until("() => document.querySelectorAll('#routes tbody tr').length >= 2")
    assert viewer.page.locator(".pool canvas").count() == 2
    assert viewer.page.title() == "Healthy · dbwatch"


@pytest.mark.usefixtures("customers")
def test_an_exhausted_pool_changes_the_verdict_and_lists_the_true_holders(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    viewer.wait_for_verdict("Healthy")
    began = time.monotonic()
    exhaust(shop)
    viewer.wait_until(
        "() => document.querySelectorAll('#holders tbody tr').length === 15"
        " && /waiting, oldest .* 12 of 15 idle in GET .reports/.test(document.querySelector('.verdict').textContent)",
        seconds=10.0,
    )
    took = time.monotonic() - began
    print(f"verdict and holders after {took:.2f} s")  # noqa: T201
    assert took < 4.0  # two seconds on a machine with nothing else to do
    assert "pool of 15 fully held" in viewer.verdict.inner_text()
    rows = list(zip(*(viewer.column("holders", name) for name in ("route", "state", "line", "statement")), strict=True))
    assert len(rows) == 15
    reports = [row for row in rows if row[0] == "GET /reports"]
    searches = [row for row in rows if row[0] == "GET /search"]
    assert (len(reports), len(searches)) == (12, 3)
    assert {state for _, state, _, _ in reports} == {"idle"}
    assert {state for _, state, _, _ in searches} == {"executing"}
    lines = [line.split("\n") for _, _, line, _ in reports]
    assert {taken.rpartition(":")[0] for taken, _ in lines} == {"tests/live/shop.py"}
    assert all(taken.endswith(" report") for taken, _ in lines)
    sleeps = next(number for number, text in enumerate(SHOP, 1) if "time.sleep(seconds)" in text)
    assert {now for _, now in lines} == {f"now at tests/live/shop.py:{sleeps} report"}
    assert {statement for *_, statement in searches} == {"SELECT 1 AS hits FROM pg_sleep(%(seconds)s)"}
    assert viewer.column("waiters", "route")
    assert set(viewer.column("waiters", "route")) <= {"GET /products", "GET /orders/{order_id}"}
    assert viewer.page.title() == "primary in trouble · dbwatch"


def test_of_many_waiters_the_oldest_are_listed_and_the_others_summed_up(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    exhaust(shop)
    viewer.wait_until("() => document.querySelectorAll('#holders tbody tr').length === 15")
    for _ in range(16):
        shop.ask("/products")
    more = viewer.page.locator("#waiters .more")
    more.filter(has_text=re.compile(r"and \d+ more: 1\d in GET /products in all")).wait_for()
    assert len(viewer.column("waiters", "route")) == 10
    viewer.wait_for_verdict("Healthy")
    assert more.is_hidden()


def test_holders_stand_oldest_first(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    shop.ask("/reports?seconds=6")
    time.sleep(1.0)
    shop.ask("/search?seconds=5")
    viewer.wait_until("() => document.querySelectorAll('#holders tbody tr').length === 2")
    assert viewer.column("holders", "route") == ["GET /reports", "GET /search"]


def test_a_leak_appears_with_its_code_line_and_is_marked_when_it_comes_back(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    shop.ask("/invoices/7").result()
    finding = viewer.page.locator("#findings .finding")
    finding.wait_for()
    assert finding.locator("h3").inner_text() == "A connection was not given back"
    assert finding.locator(".where").inner_text() == "GET /invoices/{invoice_id}, pool primary"
    line = finding.locator(".lines li").first.inner_text()
    assert line.startswith("tests/live/shop.py:")
    assert line.endswith(" invoice")
    assert "with" in finding.locator("dd").last.inner_text()
    link = finding.locator("a").get_attribute("href") or ""
    assert link.startswith("https://")
    assert link.endswith("/leaked_connection.md")
    viewer.wait_for_verdict("1 of 15 connections leaked by GET /invoices/{invoice_id}")
    assert viewer.column("holders", "state") == ["leaked"]
    shop.ask("/close-invoices").result()
    finding.get_by_text("came back").wait_for()
    viewer.wait_for_verdict("Healthy")


@pytest.mark.usefixtures("customers")
def test_pause_stops_the_page_and_resume_goes_on(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    viewer.wait_for_link("live")
    viewer.page.get_by_role("button", name="Pause").click()
    viewer.wait_for_link("paused")
    shop.ask("/invoices/1").result()
    viewer.page.wait_for_timeout(2500)
    assert viewer.page.locator("#findings .finding").count() == 0
    viewer.page.get_by_role("button", name="Resume").click()
    viewer.page.locator("#findings .finding").wait_for()
    viewer.wait_for_link("live")


def test_a_hidden_page_asks_for_nothing(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    viewer.wait_for_link("live")
    hide = """hidden => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    viewer.page.evaluate(hide, True)
    viewer.wait_for_link("hidden")
    asked: list[str] = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    viewer.page.wait_for_timeout(2500)
    assert asked == []
    viewer.page.evaluate(hide, False)
    viewer.wait_for_link("live")


@pytest.mark.usefixtures("customers")
def test_the_routes_are_sorted_by_mouse_and_by_keyboard(shop: Shop, look: Look) -> None:
    for _ in range(3):
        shop.ask("/reports?seconds=0.5").result()
    viewer = look(shop)
    viewer.wait_until("() => document.querySelectorAll('#routes tbody tr').length === 3")
    heads = viewer.page.locator("#routes th")
    assert heads.nth(2).get_attribute("aria-sort") == "descending"
    viewer.page.get_by_role("button", name="Sort by Requests").or_(
        viewer.page.get_by_role("button", name="Requests")
    ).first.click()
    assert viewer.column("routes", "route")[-1] == "GET /reports"
    assert heads.nth(1).get_attribute("aria-sort") == "descending"
    viewer.page.locator("#routes th.route button").focus()
    viewer.page.keyboard.press("Enter")
    assert viewer.column("routes", "route") == ["GET /orders/{order_id}", "GET /products", "GET /reports"]
    viewer.page.keyboard.press("Space")
    assert viewer.column("routes", "route") == ["GET /reports", "GET /products", "GET /orders/{order_id}"]
    assert heads.nth(0).get_attribute("aria-sort") == "descending"
    viewer.page.wait_for_timeout(1500)
    assert viewer.page.evaluate("document.activeElement.textContent") == "Route"
    assert viewer.column("routes", "route")[0] == "GET /reports"


def background(viewer: Viewer) -> list[int]:
    colour: str = viewer.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_dark_follows_the_system_and_the_theme_button_overrules_it(shop: Shop, look: Look) -> None:
    dark = look(shop, scheme="dark")
    assert max(background(dark)) < 60
    light = look(shop)
    assert min(background(light)) > 200
    theme = light.page.locator("#theme")
    theme.click()
    assert theme.inner_text() == "Theme: light"
    theme.click()
    assert max(background(light)) < 60
    light.page.reload()
    light.verdict.wait_for()
    assert max(background(light)) < 60


def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(shop: Shop, look: Look) -> None:
    shop.ask("/invoices/1").result()
    viewer = look(shop)
    viewer.page.locator("#findings .finding").wait_for()
    page = viewer.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    for _ in range(25):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        reached.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")
        )
        if reached[-1].startswith("Charts"):
            break
    for wanted in (
        "Pause",
        "Theme: auto",
        "Holders now",
        "Routes",
        "Requests",
        "How to mend it, with code",
        "State as JSON",
    ):
        assert wanted in reached
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    viewer.wait_for_link("paused")


@pytest.mark.usefixtures("customers")
def test_a_phone_shows_everything_without_scrolling_sideways(shop: Shop, look: Look) -> None:
    viewer = look(shop, width=400)
    shop.ask("/invoices/1").result()
    exhaust(shop)
    viewer.wait_for_verdict("waiting, oldest")
    viewer.page.locator("#findings .finding").first.wait_for()
    widest = viewer.page.evaluate(
        "() => Math.max(...[...document.querySelectorAll('body *')].filter(e => e.offsetParent && "
        "!e.closest('.uplot')).map(e => e.getBoundingClientRect().right))"
    )
    assert viewer.page.evaluate("document.documentElement.scrollWidth") == 400
    assert widest <= 400
    for words in ("used", "waiters", "Holders now", "Findings", "Routes", "Configuration"):
        assert viewer.page.get_by_text(words, exact=False).first.is_visible()


def test_a_killed_server_is_said_to_be_gone_and_a_restarted_one_is_live_again(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    viewer.wait_for_link("live")
    shop.process.stop(signal.SIGKILL)
    viewer.wait_for_link("gone", seconds=6.0)
    assert "The server does not answer" in viewer.page.locator("#gone").inner_text()
    shop.restart()
    viewer.wait_for_link("live")
    assert viewer.page.locator("#gone").is_hidden()
    viewer.wait_for_verdict("Healthy")
    # Chromium itself notes each attempt that found nobody.
    assert all("net::ERR_" in error for error in viewer.errors)
    viewer.errors.clear()


def test_an_open_page_does_not_keep_the_server_from_stopping(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    viewer.wait_for_link("live")
    began = time.monotonic()
    shop.process.stop(signal.SIGTERM)
    assert time.monotonic() - began < 8.0  # a stream alone would go on for ten seconds
    viewer.wait_for_link("gone")
    viewer.errors.clear()


@pytest.mark.usefixtures("customers")
def test_hostile_routes_statements_and_agents_are_shown_as_text(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    for _ in range(2):
        shop.ask(f"/hostile/{HOSTILE}")
    viewer.wait_until(
        "() => [...document.querySelectorAll('#holders td.route')].some(td => td.textContent.includes('<img'))"
    )
    assert "</script><script>window.pwned=1</script>" in " ".join(viewer.column("holders", "statement"))
    viewer.wait_until(
        "() => [...document.querySelectorAll('#findings .where')].some(p => p.textContent.includes('<img'))"
    )
    assert f"GET /hostile/{HOSTILE}" in viewer.column("routes", "route")
    assert viewer.page.evaluate("window.pwned") is None
    assert viewer.page.locator("main img").count() == 0
    assert viewer.page.locator("main script").count() == 0


@pytest.mark.usefixtures("customers")
def test_neither_page_nor_state_shows_parameters_or_secrets(shop: Shop, look: Look) -> None:
    viewer = look(shop)
    shop.ask("/reports?seconds=2&token=sesame")
    shop.ask("/search?seconds=2.125")
    shop.ask("/invoices/31337").result()

    def text() -> str:
        return viewer.page.content() + httpx.get(f"{shop.url}/dbwatch/api/state").text

    def complete() -> bool:
        shown = text()
        return all(part in shown for part in ("/search", "/reports", "/invoices/{invoice_id}"))

    eventually(complete)
    for secret in (PASSWORD, "sesame", "31337", "2.125", "<b>agent"):
        assert secret not in text()
