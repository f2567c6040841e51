"""A small shop for the live page: healthy routes, a report that holds its connection while it renders, a leak."""

import os
import time
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

import dbwatch
from dbwatch import DBWatchMiddleware
from tests.live.hostile import HOSTILE

engine = create_engine(
    os.environ["DATABASE_URL"],
    pool_size=int(os.environ.get("POOL_SIZE", "5")),
    max_overflow=int(os.environ.get("MAX_OVERFLOW", "10")),
    pool_timeout=float(os.environ.get("POOL_TIMEOUT", "30")),
    pool_pre_ping=True,
)
dbwatch.watch(engine, name="primary")
app = FastAPI()
app.add_middleware(DBWatchMiddleware)
kept: list[Session] = []


def get_db() -> Iterator[Session]:
    """The session of a request."""
    with Session(engine) as session:
        yield session


DB = Annotated[Session, Depends(get_db, scope="function")]


@app.get("/whoami")
def whoami() -> int:
    """Which worker answers."""
    return os.getpid()


@app.get("/orders/{order_id}")
def order(order_id: int, db: DB) -> list[int]:
    """Healthy: two quick statements."""
    lines = db.scalars(text("SELECT line FROM generate_series(1, :lines) AS line"), {"lines": order_id % 7 + 1})
    total = db.scalar(
        text("SELECT count(*) FROM pg_stat_activity WHERE pid = :secret_parameter"), {"secret_parameter": 0}
    )
    return [*lines, total or 0]


@app.get("/products")
def products(db: DB) -> int:
    """Healthy: one statement of some milliseconds."""
    return db.scalar(text("SELECT 1 FROM pg_sleep(0.008)")) or 0


@app.get("/search")
def search(db: DB, seconds: float = 1.0) -> int:
    """Executes for long."""
    return db.scalar(text("SELECT 1 AS hits FROM pg_sleep(:seconds)"), {"seconds": seconds}) or 0


@app.get("/reports")
def report(db: DB, seconds: float = 1.0) -> int:
    """Holds its connection while it renders."""
    rows = db.scalar(text("SELECT count(*) AS rows FROM generate_series(1, 1000)")) or 0
    time.sleep(seconds)
    return rows


@app.get("/invoices/{invoice_id}")
def invoice(invoice_id: int) -> int:
    """Leaks: the session is kept and never closed."""
    session = Session(engine)
    kept.append(session)
    return session.scalar(text("SELECT 42 AS total")) or 0


@app.get("/close-invoices")
def close_invoices() -> None:
    """Gives back what the invoices kept."""
    while kept:
        kept.pop().close()


@app.get(f"/hostile/{HOSTILE}")
def hostile(db: DB) -> None:
    """Has markup wherever the page shows what an app says."""
    db.execute(text(f'SELECT 1 AS "{HOSTILE}" /* </script><script>window.pwned=1</script> */'))
    time.sleep(1.2)
