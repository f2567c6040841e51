"""Waiting for what another thread or process will do, without guessing how long it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout: float = 30.0, *, every: float = 0.02) -> T:
    """Call ``condition`` until it returns something true, and return that.

    An AssertionError of the condition means "not yet". Raises TimeoutError, caused by the last of them, after
    ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        reason: AssertionError | None = None
        try:
            if result := condition():
                return result
        except AssertionError as error:
            reason = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {timeout:g} s: {reason or condition}") from reason
        time.sleep(every)
