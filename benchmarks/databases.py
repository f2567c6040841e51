"""The databases that workloads read: SQLite files and a throwaway PostgreSQL server."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory

from benchmarks.workloads import Workload, fill
from demo_app.postgres import EmbeddedPostgres


@contextmanager
def filled(workloads: Iterable[Workload]) -> Iterator[dict[str, str]]:
    """The URL for each driver of the workloads, with the table in place."""
    urls = {}
    with ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory(prefix="dbwatch-bench-"))
        for driver in ("pysqlite", "aiosqlite"):
            urls[driver] = f"sqlite+{driver}:///{directory}/bench.db"
        urls["inline"] = urls["aiosqlite"]
        fill(urls["pysqlite"])
        if any(workload.needs_postgres for workload in workloads):
            server = stack.enter_context(EmbeddedPostgres())
            fill(server.url("psycopg"))
            urls.update({driver: server.url(driver) for driver in ("psycopg", "asyncpg")})
        yield urls
