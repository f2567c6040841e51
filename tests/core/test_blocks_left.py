"""The end of an ``async with`` of SQLAlchemy's that never comes to its own end."""

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from types import coroutine
from typing import Any

import pytest

from dbwatch.hooks.unwinding import wrap_close, wrap_commit_and_exit


@coroutine
def _stands_still() -> Any:
    yield


async def _end(_self: object, *_arguments: object) -> None:
    await _stands_still()


async def _while_an_exception_is_under_way(end: Callable[..., Awaitable[None]]) -> None:
    try:
        raise LookupError
    except LookupError:
        await end(None)


@pytest.mark.parametrize("wrap", [wrap_close, wrap_commit_and_exit])
def test_what_is_closed_in_the_context_of_another_raises_nothing(
    wrap: Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]],
) -> None:
    left = _while_an_exception_is_under_way(wrap(_end))
    copy_context().run(left.send, None)
    left.close()
