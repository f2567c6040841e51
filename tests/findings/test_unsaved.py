"""Objects that a session was to save and never sent: when that is a mistake, and at which line."""

from typing import Any

import pytest
from fastapi import HTTPException, Response
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import dbwatch
from tests.findings.apps.shop import Order
from tests.findings.apps.unsaved import CHANGED, KEPT, LOST, Work, added, changed
from tests.findings.conftest import StageApp
from tests.findings.guilty import guilty_lines, place
from tests.findings.stage import Stage
from tests.findings.visitor import Visitor
from tests.servers.databases import ASYNC

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
DATABASES = ("sqlite-pysqlite", "postgres-psycopg", "sqlite-aiosqlite", "postgres-asyncpg")
EVERY = {work.__name__: work for work in (*LOST, *CHANGED, *KEPT)}


def work_at_endpoints(stage: Stage) -> None:
    """``METHOD /NAME?status=CODE`` does the work of that name, and closes its session without another word."""
    if stage.is_async:
        async_engine = stage.async_engine()
        dbwatch.watch(async_engine, "shop")

        @stage.app.api_route("/{name}", methods=METHODS)
        async def work_async(name: str, response: Response, status: int = 200) -> None:
            response.status_code = status
            async with AsyncSession(async_engine) as session:
                await session.run_sync(EVERY[name])
    else:
        engine = stage.engine()
        dbwatch.watch(engine, "shop")

        @stage.app.api_route("/{name}", methods=METHODS)
        def work_sync(name: str, response: Response, status: int = 200) -> None:
            response.status_code = status
            with Session(engine) as session:
                EVERY[name](session)


def found_in(visitor: Visitor, method: str, work: Work, status: int = 200) -> list[Any]:
    before = len(visitor.findings())
    answer = visitor.request(method, f"/{work.__name__}?status={status}")
    assert answer.status_code == status, answer.text
    return list(visitor.findings()[before:])


@pytest.mark.parametrize("database", DATABASES)
def test_what_a_session_was_told_to_save_and_never_sent_is_lost_at_the_line_that_told_it(
    database: str, stage: StageApp
) -> None:
    wrong = {}
    with stage(database, work_at_endpoints) as visitor:
        for work in LOST:
            found = found_in(visitor, "POST", work)
            places = [(finding.finding, finding.pool, place(finding.lines[0])) for finding in found]
            if places != [("lost_write", "shop", *guilty_lines(work))]:
                wrong[work.__name__] = found
    assert wrong == {}


@pytest.mark.parametrize("database", DATABASES)
def test_what_was_saved_taken_back_or_only_dressed_is_not_lost(database: str, stage: StageApp) -> None:
    wrong = {}
    with stage(database, work_at_endpoints) as visitor:
        for work in KEPT:
            for method in ("GET", "PUT"):
                found = found_in(visitor, method, work)
                if found:
                    wrong[f"{method} {work.__name__}"] = found
    assert wrong == {}


@pytest.mark.parametrize("database", DATABASES)
def test_a_changed_object_is_lost_where_the_request_was_to_change_it_and_wrote_nothing(
    database: str, stage: StageApp
) -> None:
    with stage(database, work_at_endpoints) as visitor:
        for work in CHANGED:
            for method in METHODS:
                found = [finding.finding for finding in found_in(visitor, method, work)]
                assert (method, found) == (method, ["lost_write"] if method in ("PUT", "PATCH") else [])


def test_a_response_that_reports_a_failure_has_promised_nothing(stage: StageApp) -> None:
    with stage("sqlite-pysqlite", work_at_endpoints) as visitor:
        assert found_in(visitor, "POST", added, status=409) == []
        assert found_in(visitor, "PUT", changed, status=409) == []


def failing(stage: Stage) -> None:
    engine = stage.engine()

    @stage.app.post("/")
    def refuse() -> dict[str, bool]:
        try:
            with Session(engine) as session:
                added(session)
                raise HTTPException(409)
        except HTTPException:
            return {"ok": True}


def failing_async(stage: Stage) -> None:
    engine = stage.async_engine()

    @stage.app.post("/")
    async def refuse() -> dict[str, bool]:
        try:
            async with AsyncSession(engine) as session:
                await session.run_sync(added)
                raise HTTPException(409)
        except HTTPException:
            return {"ok": True}


@pytest.mark.parametrize("database", DATABASES)
def test_a_session_that_an_exception_closes_has_not_forgotten_to_commit(database: str, stage: StageApp) -> None:
    with stage(database, failing_async if database in ASYNC else failing) as visitor:
        assert visitor.post("/").is_success
        assert visitor.findings() == ()


def told_asynchronously(stage: Stage) -> None:
    engine = stage.async_engine()

    @stage.app.post("/")
    async def place_orders() -> None:
        async with AsyncSession(engine) as session:
            order = await session.merge(Order(state="new"))  # guilty
            order.state = "merged"


def test_the_line_that_awaits_is_the_line_that_told_the_session(stage: StageApp) -> None:
    with stage("sqlite-aiosqlite", told_asynchronously) as visitor:
        assert visitor.post("/").is_success
        (found,) = visitor.findings()
    assert [place(found.lines[0])] == guilty_lines(told_asynchronously)
    assert found.message.startswith("The session was closed and had sent nothing for 1 object (Order)")
