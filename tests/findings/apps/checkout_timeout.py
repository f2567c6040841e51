"""A pool whose timeout passes while all its connections are held."""

import asyncio
import time

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.3)

    def render(rows: int) -> str:
        time.sleep(1.0)
        return f"{rows} rows"

    @app.get("/reports")
    def make_report() -> str:
        with Session(engine) as session:
            rows = session.execute(text("SELECT 1")).all()  # guilty
            return render(len(rows))

    stage.at_end.append(engine.dispose)


def corrected_sync(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_engine(url, pool_size=1, max_overflow=0)

    def render(rows: int) -> str:
        time.sleep(0.2)
        return f"{rows} rows"

    @app.get("/reports")
    def make_report() -> str:
        with Session(engine) as session:
            rows = session.execute(text("SELECT 1")).all()
        return render(len(rows))

    stage.at_end.append(engine.dispose)


def faulty_async(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.3)

    async def render(rows: int) -> str:
        await asyncio.sleep(1.0)
        return f"{rows} rows"

    @app.get("/reports")
    async def make_report() -> str:
        async with AsyncSession(engine) as session:
            rows = (await session.execute(text("SELECT 1"))).all()  # guilty
            return await render(len(rows))

    stage.at_end.append(engine.dispose)


def corrected_async(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_async_engine(url, pool_size=1, max_overflow=0)

    async def render(rows: int) -> str:
        await asyncio.sleep(0.2)
        return f"{rows} rows"

    @app.get("/reports")
    async def make_report() -> str:
        async with AsyncSession(engine) as session:
            rows = (await session.execute(text("SELECT 1"))).all()
        return await render(len(rows))

    stage.at_end.append(engine.dispose)
