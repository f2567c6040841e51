"""The start page, followed to the letter: its app is served and asked, and its log says what the page shows."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.documents.pages import PAGES, blocks_of
from tests.servers.ports import free_port
from tests.servers.program import ServerProcess

PAGE = PAGES["docs/start.md"]
APP, MENDED = blocks_of(PAGE, "python")
ASKED = re.findall(r"^curl http://127\.0\.0\.1:8000(/orders/\d)$", PAGE, re.MULTILINE)
SHOWN = blocks_of(PAGE, "text")


@contextmanager
def served(app: str, directory: Path) -> Iterator[tuple[Callable[[str], httpx.Response], ServerProcess]]:
    """The app of the page, served as the page says, but on a free port, and what asks it for a path."""
    (directory / "shop.py").write_text(app, "utf-8")
    assert "\nuvicorn shop:app\n" in PAGE
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--app-dir", str(directory), "--port", str(port)]
    server = ServerProcess(command, log=directory / "log")
    try:
        server.wait_until(lambda: "Uvicorn running" in server.output)
        yield lambda path: httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60, trust_env=False), server
    finally:
        server.stop(signal.SIGINT)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the page's app puts its database


def pattern(line: str) -> str:
    """A line of a log or of the metrics, whatever was measured or counted."""
    measured = r"\d+\.\d\d(?= s)|\d+\.0$"
    return r"\d+\.\d+".join(map(re.escape, re.split(measured, line.strip())))


def test_the_app_of_the_page_says_what_the_page_shows(tmp_path: Path) -> None:
    with served(APP, tmp_path) as (ask, server):
        # The garbage collector may free a lost connection in between; the page says so, and what to do.
        answers = [ask(path).status_code for path in ASKED]
        while len(answers) < 30 and answers[-1] == 200:
            answers.append(ask(ASKED[-1]).status_code)
        assert set(answers[:-1]) == {200}
        assert answers[-1] == 500
        metrics = ask("/metrics").text
        assert ask("/dbwatch/").status_code == 200
    lines = [line.strip() for line in [*server.output.splitlines(), *metrics.splitlines()]]
    for line in "".join(SHOWN).splitlines():
        assert [said for said in lines if re.fullmatch(pattern(line), said)], line


def test_mended_as_the_page_says_nothing_is_reported(tmp_path: Path) -> None:
    imports, function = MENDED.split("\n\n\n")
    faulty = re.search(r"^def get_session.*?\n\n\n", APP, re.MULTILINE | re.DOTALL)
    assert faulty
    with served(f"{imports}\n{APP.replace(faulty[0], function)}", tmp_path) as (ask, server):
        assert [ask(path).status_code for path in ASKED] == [200, 200, 200]
    assert "in GET /orders/{number}" not in server.output


def test_the_page_asks_for_three_orders_of_a_pool_of_two() -> None:
    assert len(ASKED) == 3
    assert "pool_size=2, max_overflow=0" in APP
