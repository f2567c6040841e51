"""A real Alertmanager with the repository's configuration, whose pages end at a webhook of the test."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import yaml

from tests.grafana.expressions import ROOT
from tests.grafana.programs import cannot_run, prometheus_program
from tests.servers.ports import free_port
from tests.servers.program import ServerProcess

CONFIGURATION = ROOT / "grafana" / "alertmanager" / "alertmanager.yml"


@dataclass
class Pager:
    """What has been received: Unix times and alerts, the first first."""

    url: str
    pages: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


@contextmanager
def webhook() -> Iterator[Pager]:
    """A webhook on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            pager.pages.extend((time.time(), alert) for alert in body["alerts"] if alert["status"] == "firing")
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the standard library
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pager = Pager(f"http://127.0.0.1:{server.server_port}/")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield pager
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def alertmanager(directory: Path, pager: Pager) -> Iterator[str]:
    """The Alertmanager, by its address; its route for pages leads to the webhook, without a wait for more alerts."""
    configuration = yaml.safe_load(CONFIGURATION.read_text("utf-8"))
    configuration["route"]["group_wait"] = "0s"
    for receiver in configuration["receivers"]:
        if receiver["name"] == "page":
            receiver["webhook_configs"] = [{"url": pager.url}]
    path = directory / "alertmanager.yml"
    path.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    process = ServerProcess(
        [
            *(prometheus_program("prometheus-alertmanager"), f"--config.file={path}"),
            *(f"--storage.path={directory / 'alertmanager'}", f"--web.listen-address={address}"),
            "--cluster.listen-address=",
        ],
        log=directory / "alertmanager.log",
    )

    def ready() -> bool:
        try:
            return httpx.get(f"http://{address}/-/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        try:
            process.wait_until(ready)
        except RuntimeError as error:
            if "default.tmpl" in str(error):  # Debian's binary reads its templates from where the package puts them.
                cannot_run("Alertmanager lacks its templates: `apt-get install prometheus-alertmanager`")
            raise
        yield address
    finally:
        process.stop()
