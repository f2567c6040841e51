"""The floor: everything that dbwatch attaches to, attached to with empty functions."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine, event, pool
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util.queue import AsyncAdaptedQueue, Queue

TITLE = "no-op middleware, wrappers and listeners where dbwatch has them (the floor)"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class SendMiddleware:
    """Wraps ``send``, which a middleware needs in order to see the response."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        def watched_send(message: Message) -> Awaitable[None]:
            return send(message)

        await self.app(scope, receive, watched_send)


def _wrap_connect(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def connect(self: Any) -> Any:
        return original(self)

    return connect


def _wrap_get(original: Callable[..., Any]) -> Callable[..., Any]:
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        return original(self, block, timeout)

    return get


def _wrap_execute(original: Callable[..., Any]) -> Callable[..., Any]:
    def do_execute(self: Any, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> Any:
        return original(self, cursor, statement, parameters, context)

    return do_execute


def _wrap_transaction_end(original: Callable[..., Any]) -> Callable[..., Any]:
    def transaction_end(self: Any, dbapi_connection: Any) -> Any:
        return original(self, dbapi_connection)

    return transaction_end


def _nothing(*_arguments: Any) -> None:
    pass


def instrument(app: FastAPI, _engine: Engine) -> None:
    app.add_middleware(SendMiddleware)
    pool.Pool.connect = _wrap_connect(pool.Pool.connect)  # type: ignore[method-assign, assignment]
    for queue in (Queue, AsyncAdaptedQueue):
        queue.get = _wrap_get(queue.get)  # type: ignore[method-assign]
    for name in ("connect", "checkout", "reset", "checkin", "detach", "invalidate", "close"):
        event.listen(pool.Pool, name, _nothing)
    event.listen(Engine, "do_connect", _nothing)
    found: list[type] = [DefaultDialect]
    while found:
        kind = found.pop()
        found.extend(kind.__subclasses__())
        for name, wrap in (
            ("do_execute", _wrap_execute),
            ("do_commit", _wrap_transaction_end),
            ("do_rollback", _wrap_transaction_end),
        ):
            if name in kind.__dict__:
                setattr(kind, name, wrap(kind.__dict__[name]))


def seen() -> None:
    return None
