"""dbwatch switched off."""

from fastapi import FastAPI
from sqlalchemy import Engine

from dbwatch import DBWatchMiddleware

TITLE = "dbwatch, enabled=False"


def instrument(app: FastAPI, _engine: Engine) -> None:
    app.add_middleware(DBWatchMiddleware, enabled=False)


def seen() -> None:
    return None
