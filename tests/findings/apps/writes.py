"""Transactions, each a function of an ORM session or a Core connection: those that lose rows, and those that do not."""

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tests.findings.apps.shop import Customer, Order, Tag

#: What an endpoint does with its session or connection.
Transaction = Callable[[Any], Any]

NO_SUCH = -1


class RefusedError(Exception):
    """An app's own reason to stop."""


def word() -> str:
    """A tag that is not there yet."""
    return uuid.uuid4().hex


def upsert(session: Session | Connection) -> Any:
    """INSERT with ON CONFLICT of the database's dialect."""
    dialect = session.get_bind().dialect if isinstance(session, Session) else session.dialect
    return (sqlite.insert if dialect.name == "sqlite" else postgresql.insert)(Tag)


# Lost: rows changed, nobody committed or rolled back.


def orm_flush(session: Session) -> None:
    session.add(Order(state="flushed"))
    session.flush()


def orm_changed_object(session: Session) -> None:
    order = session.scalars(select(Order).limit(1)).one()
    order.state = word()
    session.flush()


def orm_autoflush(session: Session) -> None:
    session.add(Tag(name=word()))
    session.scalars(select(Tag).limit(1)).all()


def text_insert(session: Session) -> None:
    session.execute(text("INSERT INTO tags (name) VALUES (:name)"), {"name": word()})


def text_insert_with_comment(session: Session) -> None:
    session.execute(
        text("/* placed by the shop */ -- twice\n INSERT INTO tags (name) VALUES (:name)"), {"name": word()}
    )


def text_insert_returning(session: Session) -> None:
    session.execute(text("INSERT INTO tags (name) VALUES (:name) RETURNING name"), {"name": word()}).scalar_one()


def insert_returning(session: Session) -> None:
    session.execute(insert(Tag).returning(Tag.name), {"name": word()}).scalar_one()


def insert_from_a_cte(session: Session) -> None:
    new = "WITH new AS (SELECT CAST(:name AS VARCHAR) AS name)"
    session.execute(text(f"{new} INSERT INTO tags (name) SELECT name FROM new"), {"name": word()})


def insert_many(session: Session) -> None:
    session.execute(insert(Tag), [{"name": word()} for _ in range(5)])


def text_insert_many(session: Session) -> None:
    session.execute(text("INSERT INTO tags (name) VALUES (:name)"), [{"name": word()} for _ in range(5)])


def update_some(session: Session) -> None:
    session.execute(update(Order).where(Order.customer_id == 1).values(state=word()))


def delete_some(session: Session) -> None:
    session.execute(delete(Order).where(Order.customer_id == 1))


def upsert_that_updates(session: Session) -> None:
    statement = upsert(session)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"name": "first"}), {"name": "first"})


def upsert_that_inserts(session: Session) -> None:
    session.execute(upsert(session).on_conflict_do_nothing(), {"name": word()})


def released_savepoint(session: Session) -> None:
    with session.begin_nested():
        session.add(Tag(name=word()))


def write_before_a_rolled_back_savepoint(session: Session) -> None:
    text_insert(session)
    savepoint = session.begin_nested()
    text_insert(session)
    savepoint.rollback()


def write_after_a_commit(session: Session) -> None:
    text_insert(session)
    session.commit()
    text_insert(session)


def write_after_a_rollback(session: Session) -> None:
    text_insert(session)
    session.rollback()
    text_insert(session)


def core_insert(connection: Connection) -> None:
    connection.execute(insert(Tag), {"name": word()})


def core_driver_sql(connection: Connection) -> None:
    connection.exec_driver_sql("INSERT INTO tags (name) SELECT 'driver' WHERE NOT EXISTS (SELECT 1 WHERE 1 = 0)")


def core_begun_and_forgotten(connection: Connection) -> None:
    connection.begin()
    connection.execute(insert(Tag), {"name": word()})


def core_write_after_autocommit(connection: Connection) -> None:
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(update(Tag).where(Tag.name == "first").values(name="first"))
    connection.commit()
    connection.execution_options(isolation_level=connection.default_isolation_level)
    connection.execute(insert(Tag), {"name": word()})


def insert_inside_a_cte(session: Session) -> None:
    inner = "INSERT INTO tags (name) VALUES (:name) RETURNING name"
    session.execute(text(f"WITH new AS ({inner}) SELECT name FROM new"), {"name": word()}).scalar_one()


def update_inside_a_cte_of_no_rows(session: Session) -> None:
    inner = "UPDATE orders SET state = 'gone' WHERE number = -1 RETURNING number"
    session.execute(text(f"WITH gone AS ({inner}) SELECT count(*) FROM gone")).scalar_one()


def merge(session: Session) -> None:
    session.execute(
        text(
            "MERGE INTO tags USING (SELECT CAST(:name AS VARCHAR) AS name) new ON tags.name = new.name "
            "WHEN NOT MATCHED THEN INSERT (name) VALUES (new.name)"
        ),
        {"name": word()},
    )


def core_lent_and_forgotten(connection: Connection) -> None:
    connection.begin()
    with Session(connection) as session:
        text_insert(session)


LOST: tuple[Transaction, ...] = (
    orm_flush,
    orm_changed_object,
    orm_autoflush,
    text_insert,
    text_insert_with_comment,
    text_insert_returning,
    insert_returning,
    insert_many,
    text_insert_many,
    update_some,
    delete_some,
    upsert_that_updates,
    upsert_that_inserts,
    released_savepoint,
    write_before_a_rolled_back_savepoint,
    write_after_a_commit,
    write_after_a_rollback,
    core_insert,
    core_driver_sql,
    core_begun_and_forgotten,
    core_write_after_autocommit,
    core_lent_and_forgotten,
)
# sqlite3 begins no transaction for a statement that starts with WITH, so there it is committed at once.
LOST_ON_POSTGRES: tuple[Transaction, ...] = (insert_from_a_cte, insert_inside_a_cte)
# asyncpg does not count the rows of a MERGE.
LOST_ON_PSYCOPG: tuple[Transaction, ...] = (merge,)


# Not lost: committed, rolled back by the app, or no row was changed.


def committed(session: Session) -> None:
    orm_flush(session)
    session.commit()


def committed_by_a_block(session: Session) -> None:
    with session.begin():
        orm_flush(session)


def committed_by_text(session: Session) -> None:
    text_insert(session)
    session.execute(text("COMMIT"))


def rolled_back(session: Session) -> None:
    orm_flush(session)
    session.rollback()


def rolled_back_by_text(session: Session) -> None:
    text_insert(session)
    session.execute(text("ROLLBACK"))


def rolled_back_by_a_refusal(session: Session) -> None:
    try:
        with session.begin():
            orm_flush(session)
            raise RefusedError
    except RefusedError:
        pass


def rolled_back_and_read_on(session: Session) -> None:
    rolled_back(session)
    session.scalars(select(Tag).limit(1)).all()


def update_none(session: Session) -> None:
    session.execute(update(Order).where(Order.number == NO_SUCH).values(state="gone"))


def update_where_false(session: Session) -> None:
    session.execute(text("UPDATE orders SET state = 'gone' WHERE 1 = 0"))


def update_none_of_many(session: Session) -> None:
    session.execute(text("UPDATE orders SET state = :state WHERE number = -1"), [{"state": "a"}, {"state": "b"}])


def delete_none(session: Session) -> None:
    session.execute(delete(Order).where(Order.number == NO_SUCH))


def delete_none_returning(session: Session) -> None:
    session.execute(delete(Order).where(Order.number == NO_SUCH).returning(Order.number)).all()


def upsert_that_does_nothing(session: Session) -> None:
    session.execute(upsert(session).on_conflict_do_nothing(), {"name": "first"})


def upsert_that_returns_nothing(session: Session) -> None:
    session.execute(upsert(session).on_conflict_do_nothing().returning(Tag.name), {"name": "first"}).all()


def text_upsert_that_returns_nothing(session: Session) -> None:
    statement = "INSERT INTO tags (name) VALUES ('first') ON CONFLICT DO NOTHING RETURNING name"
    session.execute(text(statement)).all()


def upserts_that_do_nothing(session: Session) -> None:
    statement = text("INSERT INTO tags (name) VALUES (:name) ON CONFLICT DO NOTHING")
    session.execute(statement, [{"name": "first"}, {"name": "first"}])


def insert_of_no_rows(session: Session) -> None:
    session.execute(text("INSERT INTO tags (name) SELECT name FROM tags WHERE 1 = 0"))


def insert_of_no_rows_returning(session: Session) -> None:
    session.execute(text("INSERT INTO tags (name) SELECT name FROM tags WHERE 1 = 0 RETURNING name")).all()


def rolled_back_savepoint(session: Session) -> None:
    savepoint = session.begin_nested()
    orm_flush(session)
    savepoint.rollback()


def rolled_back_savepoints_within_each_other(session: Session) -> None:
    outer = session.begin_nested()
    text_insert(session)
    with session.begin_nested():
        text_insert(session)
    outer.rollback()


def read_with_words_of_writing(session: Session) -> None:
    session.execute(text("WITH words AS (SELECT 'INSERT INTO tags' AS name) SELECT name FROM words")).all()
    session.execute(select(Customer).where(Customer.id == 1).with_for_update()).all()


def session_autocommit(session: Session) -> None:
    session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    text_insert(session)


def core_committed(connection: Connection) -> None:
    core_insert(connection)
    connection.commit()


def core_committed_by_a_block(connection: Connection) -> None:
    with connection.begin():
        core_insert(connection)


def core_rolled_back(connection: Connection) -> None:
    core_insert(connection)
    connection.rollback()


def core_transaction_rolled_back(connection: Connection) -> None:
    transaction = connection.begin()
    core_insert(connection)
    transaction.rollback()


def core_refusal(connection: Connection) -> None:
    try:
        with connection.begin():
            core_insert(connection)
            raise RefusedError
    except RefusedError:
        pass


def core_savepoint_rolled_back(connection: Connection) -> None:
    savepoint = connection.begin_nested()
    core_insert(connection)
    savepoint.rollback()


def core_autocommit(connection: Connection) -> None:
    connection.execution_options(isolation_level="AUTOCOMMIT")
    core_insert(connection)


def core_autocommit_after_a_write(connection: Connection) -> None:
    core_insert(connection)
    connection.commit()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    core_insert(connection)


def core_transaction_lent_to_a_session(connection: Connection) -> None:
    transaction = connection.begin()
    with Session(connection) as session:
        text_insert(session)
    transaction.rollback()


def temporary_table(session: Session) -> None:
    session.execute(text("CREATE TEMPORARY TABLE wanted (number INTEGER)"))
    session.execute(text("INSERT INTO wanted (number) VALUES (1), (2)"))
    session.execute(text("SELECT state FROM orders JOIN wanted ON wanted.number = orders.number")).all()


KEPT: tuple[Transaction, ...] = (
    committed,
    committed_by_a_block,
    committed_by_text,
    rolled_back,
    rolled_back_by_text,
    rolled_back_by_a_refusal,
    rolled_back_and_read_on,
    update_none,
    update_where_false,
    update_none_of_many,
    delete_none,
    delete_none_returning,
    upsert_that_does_nothing,
    upsert_that_returns_nothing,
    text_upsert_that_returns_nothing,
    upserts_that_do_nothing,
    insert_of_no_rows,
    insert_of_no_rows_returning,
    rolled_back_savepoint,
    rolled_back_savepoints_within_each_other,
    read_with_words_of_writing,
    session_autocommit,
    core_committed,
    core_committed_by_a_block,
    core_rolled_back,
    core_transaction_rolled_back,
    core_refusal,
    core_savepoint_rolled_back,
    core_autocommit,
    core_autocommit_after_a_write,
    core_transaction_lent_to_a_session,
    temporary_table,
)
KEPT_ON_POSTGRES: tuple[Transaction, ...] = (update_inside_a_cte_of_no_rows,)
