"""A coroutine cancelled at the point of your choice: the n-th time that it gives control back to the event loop."""

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any


class Stepped(Awaitable[None]):
    """Runs a coroutine as it is, and cancels the task it runs in at one of its await points, counted from 1.

    With ``again`` it is cancelled at all that follow as well, as a cancel scope of anyio does it.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], cancel_at: int, *, again: bool) -> None:
        self._coroutine = coroutine
        self._cancel_at = cancel_at
        self._again = again
        #: How often it has given control back so far.
        self.steps = 0

    @property
    def cancelled(self) -> bool:
        """Whether it got as far as the point at which it was to be cancelled."""
        return self.steps >= self._cancel_at

    def __await__(self) -> Generator[Any, Any, None]:
        inner = self._coroutine.__await__()
        task = asyncio.current_task()
        assert task is not None
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                future = inner.send(value) if error is None else inner.throw(error)
            except StopIteration:
                return
            self.steps += 1
            if self.steps == self._cancel_at or (self._again and self.cancelled):
                # The task is on its way to wait for this very future: it cancels that, as any cancellation would.
                task.cancel()
            value, error = None, None
            try:
                value = yield future
            except BaseException as thrown:  # noqa: BLE001  handed on to where it belongs
                error = thrown


async def run_until(coroutine: Coroutine[Any, Any, None], cancel_at: int, *, again: bool = False) -> Stepped:
    """Run a coroutine in a task of its own, cancelled at one point. Raises what it raises, but for the cancellation."""
    stepped = Stepped(coroutine, cancel_at, again=again)

    async def run() -> None:
        await stepped

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return stepped
