"""What kind of statement a text is, however long it may be."""

import pytest

from dbwatch import sqltext
from dbwatch.sqltext import StatementKind, kind_of

NUMBERS = ", ".join(map(str, range(5000)))
ROWS = ", ".join(f"({number}, 'it''s')" for number in range(5000))


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (f"SELECT a FROM t WHERE a IN ({NUMBERS})", StatementKind.READ),
        (f"UPDATE t SET a = 1 WHERE a IN ({NUMBERS})", StatementKind.WRITE),
        (f"INSERT INTO t (a, b) VALUES {ROWS}", StatementKind.INSERT),
        (f"INSERT INTO t (a, b) VALUES {ROWS} ON CONFLICT DO NOTHING", StatementKind.WRITE),
        (f"INSERT INTO t (a) SELECT a FROM s WHERE a IN ({NUMBERS})", StatementKind.WRITE),
        (f"/* all */ WITH s AS (SELECT a FROM t WHERE a IN ({NUMBERS})) SELECT a FROM s", StatementKind.READ),
        (f"WITH s AS (DELETE FROM t WHERE a IN ({NUMBERS}) RETURNING a) SELECT a FROM s", StatementKind.OTHER),
    ],
)
def test_a_long_statement_is_told_by_its_ends(statement: str, kind: StatementKind) -> None:
    assert kind_of(statement) is kind


def test_texts_of_any_length_take_bounded_memory() -> None:
    for number in range(3000):
        kind_of(f"INSERT INTO t{number} (a, b) VALUES {ROWS}")
    assert len(sqltext.KNOWN) <= sqltext._REMEMBERED
    assert max(map(len, sqltext.KNOWN)) <= sqltext._LONG


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("create table t (a int)", StatementKind.DEFINITION),
        ("CREATE TEMPORARY TABLE t (a int)", StatementKind.OTHER),
        ("DROP TEMPORARY TABLE t", StatementKind.OTHER),
        ("-- twice\nTRUNCATE t", StatementKind.DEFINITION),
        ("SET a = 1", StatementKind.OTHER),
    ],
)
def test_what_some_servers_commit_before_is_told_apart(statement: str, kind: StatementKind) -> None:
    assert kind_of(statement) is kind
