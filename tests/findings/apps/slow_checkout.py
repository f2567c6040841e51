"""A pool with fewer connections than requests that want one."""

import asyncio
import time

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_engine(url, pool_size=1, max_overflow=0)

    @app.get("/reports")
    def make_report() -> str:
        with Session(engine) as session:
            session.execute(text("SELECT 1"))  # guilty
            time.sleep(0.3)
            return "done"

    stage.at_end.append(engine.dispose)


def corrected_sync(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_engine(url, pool_size=8, max_overflow=0)

    @app.get("/reports")
    def make_report() -> str:
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            time.sleep(0.3)
            return "done"

    stage.at_end.append(engine.dispose)


def faulty_async(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_async_engine(url, pool_size=1, max_overflow=0)

    @app.get("/reports")
    async def make_report() -> str:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))  # guilty
            await asyncio.sleep(0.3)
            return "done"

    stage.at_end.append(engine.dispose)


def corrected_async(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_async_engine(url, pool_size=8, max_overflow=0)

    @app.get("/reports")
    async def make_report() -> str:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(0.3)
            return "done"

    stage.at_end.append(engine.dispose)
