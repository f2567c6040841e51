"""The recipe for workers: its script and worker run, and Celery is started as the page says and serves its metrics."""

import os
import re
import sys
from pathlib import Path

import httpx

from tests.documents.pages import PAGES, blocks_of
from tests.documents.test_code import run
from tests.servers.ports import free_port
from tests.servers.program import ServerProcess

PAGE = PAGES["docs/recipes/workers.md"]
SCRIPT, WORKER, CELERY = blocks_of(PAGE, "python")


def test_the_script_prints_its_pool_and_finds_nothing(tmp_path: Path) -> None:
    assert run(SCRIPT, tmp_path) == "jobs 1 used, 0 idle of 15 - waiting: 0\n"


def test_the_worker_serves_its_metrics(tmp_path: Path) -> None:
    port = free_port()
    assert WORKER.count("9108") == 1
    ask = (
        "import urllib.request\n"
        "page = urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics').read().decode()\n"
        "assert 'dbwatch_build_info' in page, page\n"
    )
    run(WORKER.replace("9108", str(port)) + ask, tmp_path, NO_PROXY="127.0.0.1")


#: Added to the page's module, because a broker in memory can be reached from inside only.
FIRST_TASK = """
from celery.signals import worker_ready

@worker_ready.connect
def place_an_order(**_):
    settle_order.delay(7)
"""


def test_the_children_of_celery_are_counted_on_the_page_of_their_parent(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "tasks.py").write_text(CELERY.replace("9109", str(port)) + FIRST_TASK, "utf-8")
    (tmp_path / "metrics").mkdir()
    (command,) = re.findall(r"^celery (.*)$", PAGE, re.MULTILINE)
    worker = ServerProcess(
        [sys.executable, "-m", "celery", "--workdir", str(tmp_path), *command.split()],
        log=tmp_path / "log",
        env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    counted = 'dbwatch_checkout_seconds_count{outcome="ok",pool="celery"} 1.0'

    def shown() -> bool:
        try:
            return counted in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10, trust_env=False).text
        except httpx.TransportError:  # not yet there
            return False

    try:
        worker.wait_until(shown)
    finally:
        worker.stop()
