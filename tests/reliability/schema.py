"""Requests generated from the demo's own schema: ``python -m tests.reliability.schema EXAMPLES`` writes a line.

Schemathesis (the extra ``fuzz``) asks the demo, with dbwatch and on PostgreSQL, whatever its OpenAPI document allows,
and much that it does not. No answer may be a server error, and dbwatch must be in order afterwards.
"""

import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from demo_app.postgres import EmbeddedPostgres
from demo_app.serving import start_app
from tests.reliability import report
from tests.servers.ports import free_port
from tests.servers.waiting import eventually


def main() -> None:
    """Run it. Exits with what was wrong."""
    examples = sys.argv[1]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
        postgres = stack.enter_context(EmbeddedPostgres())
        start_app(stack, {"DATABASE_URL": postgres.url()}, port=port, log=log)
        eventually(lambda: _answers(url))
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "--seed=1"]
        options = ["--checks=not_a_server_error", "--phases=examples,coverage,fuzzing", f"--max-examples={examples}"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        sys.stdout.write(done.stdout[-4000:])
        families = list(text_string_to_metric_families(httpx.get(f"{url}/metrics").text))
    values = {name: sum(s.value for f in families for s in f.samples if s.name == name) for name in _LOOKED_AT}
    requests = sum(int(number) for number in re.findall(r"(\d+) generated", done.stdout))
    checkouts, errors, held = (int(values[name]) for name in _LOOKED_AT)
    said = (
        f"{requests} requests, {checkouts} checkouts; errors of ours: {errors}, connections still at a route: {held}."
    )
    report.write("schema", said)
    if done.returncode or any(values[name] for name in _LOOKED_AT[1:]):
        sys.exit(f"schemathesis ended with {done.returncode}; {values}")


_LOOKED_AT = ("dbwatch_request_checkouts_total", "dbwatch_internal_errors_total", "dbwatch_route_connections")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
