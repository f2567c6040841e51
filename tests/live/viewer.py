"""Somebody who looks at the live page in a browser."""

from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request

CHROMIUM_OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Viewer:
    """The page in a tab of its own, with what went wrong in it."""

    def __init__(self, browser: Browser, url: str, width: int, scheme: str) -> None:
        self.errors: list[str] = []
        self.foreign_requests: list[str] = []
        self._origin = url.removesuffix("/dbwatch")
        self._context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._request)
        self.page.goto(url)
        self.verdict.first.wait_for()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith(f"{self._origin}/dbwatch"):
            self.foreign_requests.append(request.url)

    def close(self) -> None:
        """Close the tab."""
        self._context.close()

    @property
    def verdict(self) -> Locator:
        """The sentence about the pool."""
        return self.page.locator(".pool .verdict")

    @property
    def holders(self) -> Locator:
        """The rows of the holders."""
        return self.page.locator("#holders tbody tr")

    @property
    def link(self) -> str:
        """What the page says of its connection to the server."""
        return self.page.locator("#link").get_attribute("data-link") or ""

    def column(self, table: str, name: str) -> list[str]:
        """The texts of a column."""
        return self.page.locator(f"#{table} td.{name}").all_inner_texts()

    def wait_until(self, condition: str, *, seconds: float = 15.0, argument: Any = None) -> None:
        """Wait until a JavaScript condition holds."""
        self.page.wait_for_function(condition, arg=argument, timeout=seconds * 1e3, polling=50)

    def wait_for_verdict(self, words: str, *, seconds: float = 15.0) -> None:
        """Wait until the verdict contains some words."""
        self.wait_until(
            "words => document.querySelector('.pool .verdict').textContent.includes(words)",
            seconds=seconds,
            argument=words,
        )

    def wait_for_link(self, state: str, *, seconds: float = 15.0) -> None:
        """Wait until the page says that it is live, paused or that the server is gone."""
        self.wait_until(
            "state => document.getElementById('link').dataset.link === state", seconds=seconds, argument=state
        )
