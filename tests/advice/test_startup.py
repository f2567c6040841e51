"""The block at start-up: once for the process, with the names by which it is silenced."""

import re
import subprocess
import sys
from pathlib import Path

from demo_app.postgres import EmbeddedPostgres

PAGE = Path(__file__).parents[2] / "docs" / "findings" / "risky_configuration.md"

#: An app with an engine on PostgreSQL, the settings of which come first; two requests; what was logged and advised.
PROGRAM = """
import logging, os, sys
logging.basicConfig(format="%(levelname)s %(name)s %(message)s", stream=sys.stdout, level=logging.INFO)
logging.getLogger("httpx").disabled = logging.getLogger("httpx2").disabled = True
import anyio.to_thread
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import NullPool, create_engine, text
import dbwatch

engine = create_engine(os.environ["DATABASE"], **ENGINE)
dbwatch.watch(engine, name="primary")

@asynccontextmanager
async def lifespan(app):
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield

app = FastAPI(lifespan=lifespan)
app.add_middleware(dbwatch.DBWatchMiddleware, **OPTIONS)

@app.get("/")
def read() -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT 1"))

with TestClient(app) as client:
    for _ in range(2):
        assert client.get("/").is_success
        dbwatch.flush()
(advice,) = dbwatch.advice()
print("ADVICE", *sorted(remark.name for remark in advice.remarks if remark.level == "warning"))
engine.dispose()
"""


def run(
    postgres: EmbeddedPostgres, engine: str, *, options: str = "{}", threads: int = 40, **environment: str
) -> tuple[list[str], list[str]]:
    """The names in the block of the log, and those that dbwatch.advice() tells."""
    given = f"from sqlalchemy import NullPool\nENGINE = dict({engine})\nOPTIONS = {options}\nTHREADS = {threads}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", given + PROGRAM],
        env={"DATABASE": postgres.url("psycopg"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[risky_configuration]") <= 1
    lines = [line for line in done.stdout.splitlines() if line.startswith("  pool primary")]
    logged = [line.partition("(")[2].partition(")")[0] for line in lines]
    if logged:
        assert "WARNING dbwatch Settings that will hurt later [risky_configuration]:\n" in done.stdout
        assert f"DBWATCH_IGNORE_ADVICE={logged[0]}. More: https://" in done.stdout
    (advised,) = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("ADVICE")]
    return sorted(logged), advised


def test_the_defaults_on_a_server_are_said_once_with_the_names_that_silence_them(postgres: EmbeddedPostgres) -> None:
    logged, advised = run(postgres, "")
    assert logged == advised == ["more_threads_than_connections", "no_pre_ping"]


def test_a_sound_configuration_is_not_mentioned(postgres: EmbeddedPostgres) -> None:
    sound = "pool_size=10, max_overflow=10, pool_timeout=5, pool_pre_ping=True, pool_recycle=1800"
    assert run(postgres, sound, threads=20) == ([], [])


def test_what_is_silenced_by_its_name_is_said_nowhere(postgres: EmbeddedPostgres) -> None:
    options = '{"ignore_advice": ["no_pre_ping"]}'
    logged, advised = run(postgres, "pool_timeout=31", options=options, threads=15)
    assert logged == advised == ["long_timeout"]
    silent = run(postgres, "", threads=15, DBWATCH_IGNORE_ADVICE="no_pre_ping, long_timeout")
    assert silent == ([], [])


def test_the_workers_of_the_platform_count_against_what_the_server_says(postgres: EmbeddedPostgres) -> None:
    engine = "pool_size=20, max_overflow=0, pool_timeout=5, pool_pre_ping=True"
    options = '{"server_limits": True}'
    # The server of the tests allows 200 less those it reserves.
    assert run(postgres, engine, options=options, threads=20, WEB_CONCURRENCY="9") == ([], [])
    logged, _ = run(postgres, engine, options=options, threads=20, WEB_CONCURRENCY="10")
    assert logged == ["more_than_server_allows"]


def test_null_pool_behind_a_web_app_is_said(postgres: EmbeddedPostgres) -> None:
    logged, _ = run(postgres, "poolclass=NullPool")
    assert logged == ["null_pool"]


def test_the_code_on_the_page_is_warned_of_and_its_correction_is_not(postgres: EmbeddedPostgres) -> None:
    faulty, corrected = re.findall(r"create_engine\(url, (.*?)\)", PAGE.read_text("utf-8"))
    logged, _ = run(postgres, faulty)
    assert logged == ["long_timeout", "more_threads_than_connections", "no_pre_ping"]
    assert run(postgres, corrected) == ([], [])
