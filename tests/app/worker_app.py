"""The app that several uvicorn workers run in the tests: each answer begins with the worker's process id."""

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import dbwatch

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=3, max_overflow=0)
dbwatch.watch(engine, name="shop")

app = FastAPI()
app.add_middleware(dbwatch.DBWatchMiddleware)


@app.get("/query/{number}")
async def query(number: int) -> int:
    """Take a connection, and answer."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_sleep(0.002)"))
    return os.getpid()


@app.get("/hold")
async def hold() -> StreamingResponse:
    """Take a connection and keep it until the client goes away."""

    async def holding() -> AsyncIterator[str]:
        async with engine.connect():
            yield f"{os.getpid()}\n"
            await asyncio.sleep(3600)

    return StreamingResponse(holding())
