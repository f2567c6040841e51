"""``dbwatch check`` against a real server: the verdict, the advice, and the exit status that a script goes by."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest

from tests.servers.asgi import UvicornProcess
from tests.servers.waiting import eventually

USER = ("--user", "operator:hunter2")


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "dbwatch.cli", "check", *arguments],
        env={**os.environ, "NO_PROXY": "*", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


@pytest.fixture
def server(uvicorn_process: Callable[..., UvicornProcess]) -> UvicornProcess:
    return uvicorn_process("tests.cli.app:app")


@contextmanager
def one_held_and_one_waiting(url: str) -> Iterator[None]:
    """The only connection is out, and a request waits for it for long."""
    with ThreadPoolExecutor(2) as threads, httpx.Client(base_url=url, timeout=90, trust_env=False) as client:
        requests = [threads.submit(client.get, "/hold") for _ in range(2)]
        try:
            eventually(lambda: 'dbwatch_pool_waiters{pool="primary"} 1.0' in client.get("/metrics").text)
            yield
        finally:
            client.get("/release")
        assert all(request.result().is_success for request in requests)


def test_a_healthy_app_is_0_and_advice_is_printed_by_name(server: UvicornProcess) -> None:
    by_page = check(f"{server.url}/dbwatch", *USER)
    assert (by_page.returncode, by_page.stderr) == (0, "")
    lines = by_page.stdout.splitlines()
    assert lines[:2] == ["ok: Healthy", ""]
    assert lines[2] == "pool primary"
    assert "  size (wait): No traffic yet to size the pool by." in lines
    assert "  pool_timeout (long_timeout): The wait of 60 s is longer than most users wait" in by_page.stdout
    by_metrics = check(f"{server.url}/metrics")
    assert (by_metrics.returncode, by_metrics.stderr) == (0, "")
    assert "  pool_timeout (long_timeout): The wait of 60 s is longer than most users wait" in by_metrics.stdout
    by_state = check(f"{server.url}/dbwatch/api/state", DBWATCH_DASHBOARD_AUTH="operator:hunter2")
    assert by_state.returncode == 0


def test_an_app_whose_requests_wait_is_2_and_the_route_is_named(server: UvicornProcess) -> None:
    with one_held_and_one_waiting(server.url):
        by_page = check(f"{server.url}/dbwatch/", *USER)
        by_metrics = check(f"{server.url}/metrics", "--seconds", "2")
    assert by_page.returncode == by_metrics.returncode == 2
    assert by_page.stdout.startswith("critical: primary in trouble\n")
    assert "1 request waiting" in by_page.stdout
    assert "GET /hold" in by_page.stdout
    assert by_metrics.stdout.startswith("critical: primary in trouble\n")
    assert "p99 of used + waiters over 3 samples: 2; peak: 2" in " ".join(by_metrics.stdout.split())


def test_ten_findings_are_listed_and_the_rest_is_counted(server: UvicornProcess) -> None:
    with httpx.Client(base_url=server.url, timeout=90, trust_env=False) as client:
        for number in range(12):
            assert client.get(f"/leak/{number}").is_success
    done = check(f"{server.url}/dbwatch", *USER)
    listed = done.stdout.partition("Findings, latest first:\n")[2].splitlines()
    assert len(listed) == 11, done
    found = [
        re.fullmatch(r"  leaked_connection x1 in GET (/leak/\d+), tests/cli/app.py:\d+ leak", line) for line in listed
    ]
    assert len({match[1] for match in found if match}) == 10, done
    assert listed[10] == "  and 2 more"


def test_what_cannot_be_read_is_3_with_a_sentence_that_helps(server: UvicornProcess) -> None:
    for arguments, words in {
        (f"{server.url}/dbwatch",): "answers with status 401. Give --user NAME:PASSWORD.",
        (f"{server.url}/nothing",): "answers with status 404. Give the path of the live page",
        (f"{server.url}/other",): "/other has no metrics of dbwatch.",
        (f"{server.url}/json",): "/json answers with JSON that is no state of dbwatch of this version.",
        ("http://127.0.0.1:9/metrics",): "http://127.0.0.1:9/metrics cannot be read: ",
        ("file:///etc/passwd",): "'file:///etc/passwd' is no http:// or https:// address.",
    }.items():
        done = check(*arguments)
        assert (done.returncode, done.stdout) == (3, ""), done
        assert words in done.stderr
        assert done.stderr.startswith("Error: ")


def test_the_password_is_not_shown_to_another_host_that_a_redirect_leads_to() -> None:
    seen: list[str | None] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            if self.path == "/dbwatch":
                self.send_response(307)
                self.send_header("Location", f"http://localhost:{listening.server_port}/elsewhere")
                self.end_headers()
                return
            body = json.dumps({}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Redirecting) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        done = check(f"http://127.0.0.1:{listening.server_port}/dbwatch", *USER)
        listening.shutdown()
        thread.join()
    assert done.returncode == 3
    assert seen == [f"Basic {base64.b64encode(b'operator:hunter2').decode()}", None]


@pytest.mark.parametrize("command", ["", "check", "dashboards", "explain", "rules"])
def test_the_help_of_every_command_has_examples(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbwatch.cli", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"  dbwatch {command}" in done.stdout.partition("Examples:")[2]
