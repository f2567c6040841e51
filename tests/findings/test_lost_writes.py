"""Which transactions lose rows, and which only look as if they did."""

import inspect
import sys

import pytest
from fastapi import Response, WebSocket
from sqlalchemy import Dialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.core.numbers import Numbers
from tests.findings.apps.failures import failing, failing_async
from tests.findings.apps.writes import KEPT, KEPT_ON_POSTGRES, LOST, LOST_ON_POSTGRES, LOST_ON_PSYCOPG, Transaction
from tests.findings.conftest import StageApp
from tests.findings.guilty import place
from tests.findings.stage import Stage
from tests.servers.databases import ASYNC, SYNC


def transactions_at_endpoints(stage: Stage) -> None:
    """``POST /NAME?status=CODE`` runs the transaction of that name, and closes without another word."""
    transactions = (*LOST, *LOST_ON_POSTGRES, *LOST_ON_PSYCOPG, *KEPT, *KEPT_ON_POSTGRES)
    every = {transaction.__name__: transaction for transaction in transactions}
    if stage.is_async:
        async_engine = stage.async_engine()

        @stage.app.post("/{name}")
        async def write_async(name: str, response: Response, status: int = 200) -> None:
            response.status_code = status
            if on_connection(every[name]):
                async with async_engine.connect() as connection:
                    await connection.run_sync(every[name])
            else:
                async with AsyncSession(async_engine) as session:
                    await session.run_sync(every[name])
    else:
        engine = stage.engine()

        @stage.app.post("/{name}")
        def write_sync(name: str, response: Response, status: int = 200) -> None:
            response.status_code = status
            if on_connection(every[name]):
                with engine.connect() as connection:
                    every[name](connection)
            else:
                with Session(engine) as session:
                    every[name](session)


def on_connection(transaction: Transaction) -> bool:
    """True if the transaction takes a Core connection."""
    return "connection" in inspect.signature(transaction).parameters


@pytest.mark.parametrize("database", [*SYNC, *ASYNC])
def test_rows_that_nobody_commits_are_found_lost_at_the_line_that_wrote_them(
    database: str, stage: StageApp, numbers: Numbers
) -> None:
    lost = LOST
    if database.startswith("postgres"):
        lost += LOST_ON_POSTGRES
    if "psycopg" in database:
        lost += LOST_ON_PSYCOPG
    found = {}
    with stage(database, transactions_at_endpoints) as visitor:
        for transaction in lost:
            before = len(visitor.findings())
            assert visitor.post(f"/{transaction.__name__}").status_code == 200
            found[transaction.__name__] = [
                (finding.finding, finding.route, place(finding.lines[0]).rpartition(":")[0])
                for finding in visitor.findings()[before:]
            ]
    expected = [("lost_write", "/{name}", "tests/findings/apps/writes.py")]
    assert {name: what for name, what in found.items() if what != expected} == {}


@pytest.mark.parametrize("database", [*SYNC, *ASYNC])
def test_rows_that_were_committed_taken_back_or_never_changed_are_not_lost(
    database: str, stage: StageApp, numbers: Numbers
) -> None:
    accused = {}
    kept = KEPT if database.startswith("sqlite") else (*KEPT, *KEPT_ON_POSTGRES)
    with stage(database, transactions_at_endpoints) as visitor:
        for transaction in kept:
            before = len(visitor.findings())
            status = visitor.post(f"/{transaction.__name__}").status_code
            accused[transaction.__name__] = [status, *visitor.findings()[before:]]
    assert {name: what for name, what in accused.items() if what != [200]} == {}


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500, 503])
@pytest.mark.parametrize("database", ["sqlite-pysqlite", "postgres-asyncpg"])
def test_a_rollback_on_a_response_that_reports_a_failure_loses_nothing(
    database: str, status: int, stage: StageApp
) -> None:
    with stage(database, transactions_at_endpoints) as visitor:
        assert visitor.post(f"/text_insert?status={status}").status_code == status
        assert visitor.findings() == ()


@pytest.mark.parametrize("status", [200, 201, 204, 303])
def test_a_rollback_on_a_response_that_reports_a_success_loses_rows(status: int, stage: StageApp) -> None:
    with stage("sqlite-pysqlite", transactions_at_endpoints) as visitor:
        assert visitor.post(f"/text_insert?status={status}").status_code == status
        assert [finding.finding for finding in visitor.findings()] == ["lost_write"]


@pytest.mark.parametrize("database", [*SYNC, *ASYNC])
def test_what_an_exception_rolled_back_is_not_lost_even_if_the_response_is_a_success(
    database: str, stage: StageApp, numbers: Numbers
) -> None:
    with stage(database, failing_async if database in ASYNC else failing) as visitor:
        for path in ("/block", "/finally", "/again", "/connection"):
            assert visitor.get(path).status_code == 200
        assert visitor.findings() == ()


@pytest.mark.parametrize("database", [*SYNC, *ASYNC])
def test_autocommit_is_told_from_the_driver_where_sqlalchemy_cannot_tell(
    database: str, stage: StageApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[type] = [Dialect]
    for kind in kinds:  # 2.0.42 and older
        monkeypatch.delattr(kind, "detect_autocommit_setting", raising=False)
        kinds += kind.__subclasses__()
    with stage(database, transactions_at_endpoints) as visitor:
        assert visitor.post("/session_autocommit").status_code == 200
        assert visitor.findings() == ()
        assert visitor.post("/text_insert").status_code == 200
        assert [finding.finding for finding in visitor.findings()] == ["lost_write"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has the switch since Python 3.12")
def test_rows_are_kept_where_sqlite3_itself_is_in_autocommit_mode(stage: StageApp) -> None:
    def build(stage: Stage) -> None:
        engine = stage.engine(connect_args={"autocommit": True})

        @stage.app.post("/write")
        def write() -> None:
            with Session(engine) as session:
                LOST[0](session)

    with stage("sqlite-pysqlite", build) as visitor:
        assert visitor.post("/write").status_code == 200
        assert visitor.findings() == ()


def a_websocket_that_writes(stage: Stage) -> None:
    """``/socket?accept=1&code=1000`` writes a row without committing, then says yes or no to its client."""
    engine = stage.async_engine()

    @stage.app.websocket("/socket")
    async def write(websocket: WebSocket, accept: bool, code: int) -> None:
        if accept:
            await websocket.accept()
        async with AsyncSession(engine) as session:
            await session.run_sync(LOST[0])
        await websocket.close(code)


@pytest.mark.parametrize(
    ("accept", "code", "lost"), [(True, 1000, True), (True, 1001, True), (True, 1011, False), (False, 1000, False)]
)
def test_rows_are_lost_by_a_websocket_only_if_its_client_was_not_told_of_a_failure(
    accept: bool, code: int, lost: bool, stage: StageApp
) -> None:
    with stage("sqlite-aiosqlite", a_websocket_that_writes) as visitor:
        address = f"{visitor.url.replace('http', 'ws')}/socket?accept={int(accept)}&code={code}"
        if accept:
            with connect(address) as socket:
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=20)
                assert socket.close_code == code
        else:
            with pytest.raises(InvalidStatus):
                connect(address)
        assert [finding.finding for finding in visitor.findings()] == ["lost_write"] * lost
