"""MariaDB and MySQL commit by themselves before a definition is changed: what was written before is not lost."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, create_engine, text

from tests.findings.conftest import StageApp
from tests.findings.stage import Stage
from tests.servers.mariadb import MariaDB

INSERT = text("INSERT INTO words (word) VALUES ('new')")


@pytest.fixture(scope="module")
def words(mariadb: MariaDB) -> Iterator[Callable[[], int]]:
    """The number of rows that outlived their transaction."""
    engine = create_engine(mariadb.url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE words (word VARCHAR(20))"))
        connection.execute(text("CREATE TABLE other (word VARCHAR(20))"))
        yield lambda: int(connection.execute(text("SELECT count(*) FROM words")).scalar_one())
    engine.dispose()


def never_committed(connection: Connection) -> None:
    connection.execute(INSERT)


def written_after_a_definition(connection: Connection) -> None:
    connection.execute(text("TRUNCATE TABLE other"))
    connection.execute(INSERT)


def written_before_a_temporary_table(connection: Connection) -> None:
    connection.execute(INSERT)
    connection.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS mine (word VARCHAR(20))"))


def written_before_a_definition(connection: Connection) -> None:
    connection.execute(INSERT)
    connection.execute(text("TRUNCATE TABLE other"))


def written_before_a_new_transaction(connection: Connection) -> None:
    connection.execute(INSERT)
    connection.execute(text("START TRANSACTION"))


def written_before_a_lock(connection: Connection) -> None:
    connection.execute(INSERT)
    connection.execute(text("LOCK TABLES words READ"))
    connection.execute(text("UNLOCK TABLES"))


@pytest.mark.parametrize(
    ("write", "lost"),
    [
        (never_committed, True),
        (written_after_a_definition, True),
        (written_before_a_temporary_table, True),
        (written_before_a_definition, False),
        (written_before_a_new_transaction, False),
        (written_before_a_lock, False),
    ],
)
def test_a_row_is_called_lost_exactly_if_it_is(
    write: Callable[[Connection], None], lost: bool, words: Callable[[], int], stage: StageApp
) -> None:
    def app(stage: Stage) -> None:
        engine = stage.engine()

        @stage.app.post("/words")
        def add() -> None:
            with engine.connect() as connection:
                write(connection)

    before = words()
    with stage("mariadb-pymysql", app) as visitor:
        assert visitor.post("/words").status_code == 200
        assert [finding.finding for finding in visitor.findings()] == ["lost_write"] * lost
    assert words() == before + (not lost)
