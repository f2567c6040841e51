"""The app itself: a small shop that a team could have written, plus one line for dbwatch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, status
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy import exc
from sqlalchemy.orm.exc import StaleDataError

from dbwatch import DBWatchMiddleware
from demo_app.api import async_shop, sync_shop
from demo_app.database import Database
from demo_app.scenarios import SCENARIOS
from demo_app.settings import Settings

#: Where the live page is.
LIVE_PAGE = "/dbwatch"


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app; without settings, from the environment. Raises SettingsError if that cannot be used."""
    settings = settings or Settings.load()
    database = Database(settings)
    scenario = SCENARIOS.get(settings.scenario)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await run_in_threadpool(database.prepare, scenario.setup if scenario else None)
            yield
        finally:
            await database.close()

    app = FastAPI(title="dbwatch demo shop", lifespan=lifespan)
    app.state.database = database
    app.add_middleware(DBWatchMiddleware, dashboard=LIVE_PAGE)
    for cause in (exc.TimeoutError, exc.DBAPIError, ConnectionError):
        app.add_exception_handler(cause, _unavailable)
    app.add_exception_handler(StaleDataError, _overtaken)
    app.include_router(sync_shop.router, tags=["sync"])
    app.include_router(async_shop.router, tags=["async"])
    if scenario:
        app.include_router(scenario.variant(settings.scenario_variant).router, tags=[scenario.name])
    app.add_api_route("/health", _health, include_in_schema=False)
    return app


async def _health() -> dict[str, str]:
    return {"status": "ok"}


async def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    """Answer 503 when there is no connection to be had: the client may try again, and nothing is wrong with the app."""
    if isinstance(error, (exc.IntegrityError, exc.DataError, exc.ProgrammingError, exc.NotSupportedError)):
        raise error
    return JSONResponse(
        {"detail": "The database is not available; try again."},
        status.HTTP_503_SERVICE_UNAVAILABLE,
        {"Retry-After": "1"},
    )


async def _overtaken(_request: Request, _error: Exception) -> JSONResponse:
    """Answer 409 when another request deleted the row between the reading and the writing of this one."""
    return JSONResponse({"detail": "Another request was faster; read again."}, status.HTTP_409_CONFLICT)
