"""An app with one connection, which a request holds for as long as it is told to."""

import threading
from functools import cache

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from sqlalchemy import Connection, Engine, QueuePool, create_engine, text

import dbwatch

engine = create_engine(
    "sqlite://",
    poolclass=QueuePool,
    pool_size=1,
    max_overflow=0,
    pool_timeout=60,
    connect_args={"check_same_thread": False},
)
dbwatch.watch(engine, name="primary")
app = FastAPI()
app.add_middleware(dbwatch.DBWatchMiddleware, dashboard="/dbwatch", dashboard_auth=("operator", "hunter2"))
released = threading.Event()
leaked: list[Connection] = []


@app.get("/hold")
def hold() -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        released.wait(60)


@app.get("/release")
async def release() -> None:
    released.set()


@app.get("/other", response_class=PlainTextResponse)
async def other() -> str:
    return "up 1\n"


@app.get("/json")
async def some_json() -> dict[str, str]:
    return {"verdict": "fine"}


@cache
def another_engine() -> Engine:
    return create_engine("sqlite://", poolclass=QueuePool, pool_size=12, connect_args={"check_same_thread": False})


def leak() -> None:
    leaked.append(another_engine().connect())


for number in range(12):
    app.add_api_route(f"/leak/{number}", leak)
