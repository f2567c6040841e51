"""What is decided once in a process, and what a fork does to it: each test is a program of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(program: str, **environment: str) -> str:
    """What the program prints; fails with its errors if it has any."""
    done = subprocess.run(
        # Python 3.12 and later warn of every fork of a process with threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


REFUSED = """
import os
from prometheus_client import CollectorRegistry
SET_LATE
from dbwatch import ConfigurationError, DBWatchMiddleware
try:
    DBWatchMiddleware(None)
except ConfigurationError as error:
    print(error)
"""


def test_a_multiprocess_directory_that_is_missing_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "not made"
    said = run(REFUSED.replace("SET_LATE", ""), PROMETHEUS_MULTIPROC_DIR=str(missing))
    assert said.startswith(f"dbwatch: PROMETHEUS_MULTIPROC_DIR is {str(missing)!r}, which is no directory")
    assert "Create it" in said


def test_a_multiprocess_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    said = run(REFUSED.replace("SET_LATE", ""), PROMETHEUS_MULTIPROC_DIR=str(file))
    assert "which is no directory this process can write to" in said


def test_a_multiprocess_directory_that_is_an_empty_word_is_refused() -> None:
    said = run(REFUSED.replace("SET_LATE", ""), PROMETHEUS_MULTIPROC_DIR="")
    assert said.startswith("dbwatch: PROMETHEUS_MULTIPROC_DIR is ''")


def test_a_multiprocess_directory_that_is_set_too_late_is_refused(tmp_path: Path) -> None:
    set_late = f"os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(tmp_path)!r}"
    said = run(REFUSED.replace("SET_LATE", set_late))
    assert "it was set after prometheus_client had been imported" in said


FORK = """
import asyncio, os, sys, time
from prometheus_client import generate_latest
from sqlalchemy import QueuePool, create_engine, text
import dbwatch
from tests.app.calls import call
from tests.app.scrape import Scrape, scrape

engine = create_engine("sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False})
dbwatch.watch(engine, name="shop")

def query():
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))

async def app(scope, receive, send):
    found = scope["path"] != "/metrics"
    if found:
        await asyncio.to_thread(query)
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})

watched = dbwatch.DBWatchMiddleware(app)

async def ask(times):
    for _ in range(times):
        await call(watched, "/")

def show(who):
    page = asyncio.run(scrape(watched))
    [pool] = dbwatch.snapshot()
    requests, holds = page.sum("dbwatch_request_checkouts_total"), page.value("dbwatch_hold_seconds_count")
    shown = page.value("dbwatch_pool_connections", state="used")
    print(f"{who} requests {requests} holds {holds} shown {shown} used {pool.used} idle {pool.idle}", flush=True)

asyncio.run(ask(3))
out = engine.connect()
TIME_FOR_THE_FLUSHER
show("parent")
child = os.fork()
if child == 0:
    engine.dispose(close=False)  # as SQLAlchemy tells programs that fork
    show("child")
    asyncio.run(ask(2))
    TIME_FOR_THE_FLUSHER
    show("child")
    os._exit(0)
os.waitpid(child, 0)
show("parent")
out.close()
"""


def fork(wait: str = "", **environment: str) -> list[str]:
    return run(FORK.replace("TIME_FOR_THE_FLUSHER", wait), **environment).splitlines()


def test_a_forked_child_starts_at_0_and_the_parent_goes_on() -> None:
    assert fork() == [
        "parent requests 3.0 holds 3.0 shown 1.0 used 1 idle 0",
        "child requests 0 holds 0.0 shown 0.0 used 0 idle 0",
        "child requests 2.0 holds 2.0 shown 0.0 used 0 idle 1",
        "parent requests 3.0 holds 3.0 shown 1.0 used 1 idle 0",
    ]


def test_processes_forked_from_one_app_add_up_in_the_shared_directory(tmp_path: Path) -> None:
    assert fork("time.sleep(0.1)", PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == [
        "parent requests 3.0 holds 3.0 shown 1.0 used 1 idle 0",
        "child requests 3.0 holds 3.0 shown 1.0 used 0 idle 0",
        "child requests 5.0 holds 5.0 shown 1.0 used 0 idle 1",
        "parent requests 5.0 holds 5.0 shown 1.0 used 1 idle 0",
    ]


FLUSHERS = """
import os, threading
from prometheus_client import generate_latest
from sqlalchemy import QueuePool, create_engine
import dbwatch
from dbwatch.outputs.prometheus import _ProcessFiles
from tests.app.scrape import Scrape
from tests.servers.waiting import eventually

engine = create_engine("sqlite://", poolclass=QueuePool)
dbwatch.watch(engine, name="shop")
dbwatch.DBWatchMiddleware(None)

def flushers():
    return sum(thread.name == "dbwatch-flusher" for thread in threading.enumerate())

print(flushers())
engine.connect().close()
engine.connect().close()
print(flushers())
child = os.fork()
if child == 0:
    engine.dispose(close=False)
    print(flushers())
    engine.connect().close()
    print(flushers(), flush=True)
    # The flushers of both write every second, without any scrape.
    def holds():
        return Scrape(generate_latest(_ProcessFiles()).decode()).sum("dbwatch_hold_seconds_count")
    print(eventually(lambda: holds() >= 3.0 and holds()), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_each_process_has_one_flusher_from_its_first_checkout(tmp_path: Path) -> None:
    printed = run(FLUSHERS, PROMETHEUS_MULTIPROC_DIR=str(tmp_path), PYTHONUNBUFFERED="1").split()
    assert printed == ["0", "1", "0", "1", "3.0"]


FORKS = """
import os
from prometheus_client import Counter
from sqlalchemy import QueuePool, create_engine
import dbwatch
from dbwatch.outputs import prometheus

prometheus.FLUSH_INTERVAL = 0.0  # it writes all the time, so that every fork meets a write
engine = create_engine("sqlite://", poolclass=QueuePool)
dbwatch.watch(engine, name="shop")
dbwatch.DBWatchMiddleware(None)
orders = Counter("orders", "The app's own.")
engine.connect().close()
for _ in range(30):
    child = os.fork()
    if child == 0:
        orders.inc()
        os._exit(0)
    os.waitpid(child, 0)
orders.inc()
print("none was left hanging")
"""


def test_a_fork_in_the_middle_of_a_write_leaves_the_childs_own_metrics_usable(tmp_path: Path) -> None:
    assert run(FORKS, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "none was left hanging\n"


RESTARTED = """
from sqlalchemy import QueuePool, create_engine
import dbwatch
from dbwatch import runtime

engine = create_engine("sqlite://", poolclass=QueuePool)
dbwatch.watch(engine, name="shop")
page = runtime.exposition(None)
for _ in range(4):
    engine.connect().close()
    page.flush()
runtime._start_anew()
# As a new process with the same process id does: what the file holds is where counting goes on.
engine.connect().close()
status, headers, body = page.render({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""})
print([line.split()[-1] for line in body.decode().splitlines() if line.startswith("dbwatch_hold_seconds_count")])
"""


def test_a_process_that_finds_files_of_its_own_id_goes_on_counting_there(tmp_path: Path) -> None:
    assert run(RESTARTED, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "['5.0']\n"


RECURRING = """
import asyncio, os
from pathlib import Path
from prometheus_client import generate_latest
from sqlalchemy import QueuePool, create_engine
import dbwatch
from dbwatch import runtime
from dbwatch.outputs.prometheus import _ProcessFiles
from tests.app.scrape import Scrape

predecessor = os.fork()
if predecessor == 0:  # two connections are out when it is killed
    engine = create_engine("sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False})
    dbwatch.watch(engine, name="of yesterday")
    page = runtime.exposition(None)
    kept = engine.connect(), engine.connect()
    dbwatch.flush()
    os.kill(os.getpid(), 9)
os.waitpid(predecessor, 0)
directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
for path in directory.glob(f"*_{predecessor}.db"):  # the kernel has given its number to this process
    path.rename(path.with_stem(path.stem.replace(str(predecessor), str(os.getpid()))))
files = sorted(path.name for path in directory.iterdir())

dbwatch.watch(create_engine("sqlite://", poolclass=QueuePool), name="of today")
app = dbwatch.DBWatchMiddleware(LIFESPAN)

async def start():
    async def send(message):
        pass
    await app({"type": "lifespan"}, None, send)

asyncio.run(start())
# As any other worker would show them.
page = Scrape(generate_latest(_ProcessFiles()).decode())
for pool in ("of yesterday", "of today"):
    used = page.value("dbwatch_pool_connections", pool=pool, state="used")
    oldest = page.value("dbwatch_pool_oldest_checkout_seconds", pool=pool)
    print(pool, used, page.value("dbwatch_pool_size", pool=pool), oldest)
print(page.value("dbwatch_checkout_seconds_count", pool="of yesterday", outcome="ok"))
print(files == sorted(path.name for path in directory.iterdir()))
"""
LIFESPAN = """lambda scope, receive, send: send({"type": "lifespan.startup.complete"})"""


def test_a_worker_that_starts_takes_back_what_a_killed_one_of_the_same_number_still_shows(tmp_path: Path) -> None:
    printed = run(RECURRING.replace("LIFESPAN", LIFESPAN), PROMETHEUS_MULTIPROC_DIR=str(tmp_path)).splitlines()
    assert printed == ["of yesterday 0.0 0.0 0.0", "of today 0.0 5.0 0.0", "2.0", "True"]


NOT_WAITED_FOR = """
import os
from prometheus_client import generate_latest
from sqlalchemy import QueuePool, create_engine
import dbwatch
from dbwatch import runtime
from dbwatch.outputs.prometheus import _ProcessFiles, remove_dead_gauges
from tests.app.scrape import Scrape

engine = create_engine("sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False})
dbwatch.watch(engine, name="shop")
page = runtime.exposition(None)
child = os.fork()
if child == 0:
    kept = engine.connect()
    dbwatch.flush()
    os.kill(os.getpid(), 9)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

def used():
    page = Scrape(generate_latest(_ProcessFiles()).decode())
    return page.sum("dbwatch_pool_connections", state="used"), page.sum("dbwatch_checkout_seconds_count")

print(used())
remove_dead_gauges()
print(used())
os.waitpid(child, 0)
"""


def test_a_process_that_has_ended_leaves_the_gauges_also_if_nobody_has_waited_for_it(tmp_path: Path) -> None:
    assert run(NOT_WAITED_FOR, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "(1.0, 1.0)\n(0, 1.0)\n"


NAMES = """
from sqlalchemy import QueuePool, create_engine
import dbwatch
from dbwatch import runtime

engine = create_engine("sqlite://", poolclass=QueuePool)
dbwatch.watch(engine, name="shop")
page = runtime.exposition(None)
engine.connect().close()
query = "name[]=dbwatch_leaks_total&name[]=dbwatch_pool_size"
status, headers, body = page.render({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": query})
print(sorted({line.split("{")[0] for line in body.decode().splitlines() if not line.startswith("#")}))
"""


def test_a_file_that_another_process_has_only_just_created_does_not_spoil_the_page(tmp_path: Path) -> None:
    # prometheus_client creates its files empty and gives them their size afterwards.
    for name in ("counter_4000001.db", "histogram_4000001.db", "gauge_livesum_4000001.db"):
        (tmp_path / name).touch()
    assert run(NAMES, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "['dbwatch_leaks_total', 'dbwatch_pool_size']\n"


def test_several_workers_also_answer_for_some_names_only(tmp_path: Path) -> None:
    assert run(NAMES, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "['dbwatch_leaks_total', 'dbwatch_pool_size']\n"
