"""The answers to requests that cannot be fulfilled; FastAPI itself answers malformed ones with 422."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from fastapi import HTTPException, status
from sqlalchemy.exc import IntegrityError

Row = TypeVar("Row")


def found(row: Row | None, kind: str, row_id: int) -> Row:
    """The row, or 404 if there is none."""
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no {kind} {row_id}.")
    return row


def conflict(reason: str) -> HTTPException:
    """409: the request is well-formed, but the data as they are forbid it."""
    return HTTPException(status.HTTP_409_CONFLICT, reason)


@contextmanager
def conflict_if_violated(reason: str) -> Iterator[None]:
    """Answer 409 if the flush in the block violates a constraint of the database.

    Looking first and writing then would let another request write in between; the constraint cannot be overtaken.
    """
    try:
        yield
    except IntegrityError as error:
        raise conflict(reason) from error
