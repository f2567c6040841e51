"""Workers and scripts: dbwatch is installed by hand, and the metrics have a port of their own."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.app.scrape import Scrape
from tests.servers.program import ServerProcess
from tests.servers.waiting import eventually

WORKER = """
import sys, time
from sqlalchemy import QueuePool, create_engine, text
import dbwatch

engine = create_engine("sqlite://", poolclass=QueuePool)
dbwatch.watch(engine, name="jobs")
print("port", dbwatch.serve_metrics(0), flush=True)
for _ in range(3):
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
print("done", flush=True)
time.sleep(600)
"""

FORKING = """
import os, sys, time
import dbwatch
from sqlalchemy import QueuePool, create_engine, text

print("port", dbwatch.serve_metrics(0), flush=True)
for number in range(2):
    if os.fork() == 0:
        engine = create_engine("sqlite://", poolclass=QueuePool)
        dbwatch.watch(engine, name="jobs")
        for _ in range(number + 1):
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        time.sleep(600)
        os._exit(0)
print("done", flush=True)
time.sleep(600)
"""


def scrape(worker: ServerProcess) -> Scrape:
    port = worker.output.split("port ")[1].split()[0]
    return Scrape(httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30.0, trust_env=False).text)


def start(program: str, tmp_path: Path, **env: str) -> ServerProcess:
    # That a process with threads forks is what is tried here. Python warns of it, of the server's thread since 3.15.
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    worker = ServerProcess([sys.executable, *options, "-c", program], log=tmp_path / "log", env=env)
    worker.wait_until(lambda: "done" in worker.output)
    return worker


def test_a_worker_serves_its_metrics_on_a_port_of_its_own(tmp_path: Path) -> None:
    worker = start(WORKER, tmp_path)
    try:
        page = scrape(worker)
        assert page.value("dbwatch_hold_seconds_count", pool="jobs") == 3
        assert page.value("dbwatch_pool_connections", pool="jobs", state="idle") == 1
        assert list(page.samples("process_cpu_seconds_total")), "the registry has more than ours"
    finally:
        worker.stop()


ENDING = """
import time
import os
import dbwatch
from sqlalchemy import QueuePool, create_engine, text

port = dbwatch.serve_metrics(0)
child = os.fork()
if child == 0:
    engine = create_engine("sqlite://", poolclass=QueuePool)
    dbwatch.watch(engine, name="jobs")
    for _ in range(20):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    dbwatch.flush()
    os._exit(0)
os.waitpid(child, 0)
print("port", port, flush=True)
print("done", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks on Windows")
def test_a_child_that_ends_abruptly_loses_nothing_it_has_flushed(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    worker = start(ENDING, tmp_path, PROMETHEUS_MULTIPROC_DIR=str(directory))
    try:
        assert scrape(worker).value("dbwatch_hold_seconds_count", pool="jobs") == 20
    finally:
        worker.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks on Windows")
def test_the_parent_of_forked_workers_serves_the_sums_of_all(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    worker = start(FORKING, tmp_path, PROMETHEUS_MULTIPROC_DIR=str(directory))
    try:

        def all_told() -> Scrape:
            page = scrape(worker)
            assert page.sum("dbwatch_hold_seconds_count", pool="jobs") == 3
            assert page.sum("dbwatch_pool_connections", pool="jobs", state="idle") == 2
            return page

        eventually(all_told, every=0.2)
    finally:
        worker.stop()


def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    program = "import dbwatch\nport = dbwatch.serve_metrics(0)\ndbwatch.serve_metrics(port)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
