"""A Celery app whose parent process serves the metrics of its children; its broker is the directory ``BROKER``."""

import os
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_init
from sqlalchemy import QueuePool, create_engine, text

import dbwatch

engine = create_engine("sqlite://", poolclass=QueuePool)
dbwatch.watch(engine, name="jobs")

app = Celery("jobs", broker="filesystem://")
folder = os.environ["BROKER"]
app.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder}


@worker_init.connect  # type: ignore[untyped-decorator]
def serve(**_: Any) -> None:
    """In the parent, before it forks."""
    sys.stdout.write(f"port {dbwatch.serve_metrics(0)}\n")
    sys.stdout.flush()


@app.task  # type: ignore[untyped-decorator]
def query() -> None:
    """One statement."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
