"""SQLAdmin on a synchronous engine: it lists the choices of a form on the event loop."""

from fastapi import FastAPI
from sqlalchemy import create_engine

from tests.realworld.libraries.admin_async import LIBRARY, admin_of, visit

__all__ = ["LIBRARY", "TRUE", "build", "visit"]

TRUE = {"blocked_event_loop": "always"}


def build(sync_url: str, async_url: str) -> FastAPI:
    return admin_of(create_engine(sync_url))
