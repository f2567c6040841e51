"""dbwatch as in a server with several workers: another process may scrape, so a thread writes files every second."""

import atexit
import os
import shutil
from tempfile import mkdtemp

from fastapi import FastAPI
from sqlalchemy import Engine

# Before prometheus_client is imported, which looks for it then.
_directory = mkdtemp(prefix="dbwatch-bench-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _directory
atexit.register(shutil.rmtree, _directory, ignore_errors=True)

from benchmarks.variants import dbwatch_on  # noqa: E402

TITLE = "dbwatch, multiprocess mode"


def instrument(app: FastAPI, engine: Engine) -> None:
    dbwatch_on.instrument(app, engine)


seen = dbwatch_on.seen
