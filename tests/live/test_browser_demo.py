"""The page of the demo under its own traffic: a mistake is switched on in the guide, seen, and switched off again."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.live.viewer import Viewer
from tests.servers.program import ServerProcess

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")


class Demo:
    """``python -m demo_app``, and how its guide is told what to show."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "demo_app", "--port=0", "--rate=30"]
        log = directory / "log"
        self._process = ServerProcess(command, log=log, env={"DATABASE_URL": ""})
        self._process.wait_until(lambda: "Ctrl-C stops everything." in self._process.output)
        self.url, self._guide = (self._address(name) for name in ("Shop", "Guide"))

    def _address(self, name: str) -> str:
        found = re.search(rf"^{name} +(http://\S+)", self._process.output, re.MULTILINE)
        assert found, self._process.output
        return found[1]

    def show(self, scenario: str, variant: str) -> None:
        """Switch."""
        answer = httpx.post(f"{self._guide}/show", params={"scenario": scenario, "variant": variant}, trust_env=False)
        assert answer.status_code == 303

    def close(self) -> None:
        """Stop it as a supervisor does."""
        self._process.stop()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    demo.close()


def test_the_demo_shows_a_mistake_with_its_holders_and_line_and_then_its_correction(
    demo: Demo, browser: Browser
) -> None:
    viewer = Viewer(browser, f"{demo.url}/dbwatch", 1280, "light")
    viewer.wait_for_verdict("Healthy", seconds=30.0)

    demo.show("http-call", "broken")
    route = "GET /delivery/{product_id}"
    viewer.wait_until(
        "route => [...document.querySelectorAll('.pool .verdict')].some(verdict =>"
        " verdict.textContent.includes('pool of 15 fully held') && verdict.textContent.includes(`idle in ${route}`))",
        seconds=60.0,
        argument=route,
    )
    viewer.wait_until("() => document.querySelectorAll('#holders tbody tr').length >= 15", seconds=30.0)
    assert set(viewer.column("holders", "route")) <= {route}
    assert all(line.startswith("demo_app/scenarios/http_call.py:") for line in viewer.column("holders", "line"))
    finding = viewer.page.locator("#findings .finding").filter(has_text="A connection was held without running SQL")
    finding.wait_for(timeout=60_000)
    lines = finding.locator(".lines li").all_inner_texts()
    assert lines[0].endswith(" delivery_broken")
    assert lines[-1].endswith(" ask_the_supplier")

    demo.show("http-call", "fixed")
    viewer.wait_until(
        "() => [...document.querySelectorAll('.pool .verdict')].every(one => one.textContent.includes('Healthy'))"
        " && document.querySelectorAll('#routes tbody tr').length > 0",
        seconds=90.0,
    )
    assert viewer.foreign_requests == []
    # Chromium itself notes that nobody answers while the app is restarted.
    assert all("net::ERR_" in error for error in viewer.errors)
    viewer.close()
