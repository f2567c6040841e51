"""Objects that a session was to save or delete, and that were gone with its close before any statement was sent.

Nothing below the ORM can tell of them. What proves the wish to save is ``add()``, ``delete()`` or a ``merge()`` of
something new: an object that is merely changed may have been dressed for the response, one that came along by a cascade
was never asked for, and a merge of what there is may only attach it to this session. Only a PUT or PATCH that wrote
nothing at all can have meant nothing but the change.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from dbwatch import judgement
from dbwatch.callsites import call_site
from dbwatch.context import REQUEST
from dbwatch.guard import guarded
from dbwatch.hooks.switch import SWITCH
from dbwatch.hooks.unwinding import unwinding
from dbwatch.pools import POOLS
from dbwatch.records import UNKNOWN, Request

#: Where a session carries the state of the first object that it was told to save or delete since its last flush, and
#: the lines that told it.
_TOLD = "_dbwatch_told"
_CHANGING_METHODS = frozenset({"PUT", "PATCH"})


def wrap_telling(original: Callable[..., Any]) -> Callable[..., Any]:
    """``Session.add()`` or ``delete()`` with the line noted."""

    @functools.wraps(original)
    def tell(self: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        original(self, instance, *args, **kwargs)
        if SWITCH.on:
            told(self, instance)

    return tell


def wrap_merge(original: Callable[..., Any]) -> Callable[..., Any]:
    """``Session.merge()`` with the line noted that merges something new."""

    @functools.wraps(original)
    def merge(self: Any, *args: Any, **kwargs: Any) -> Any:
        instance = original(self, *args, **kwargs)
        if SWITCH.on:
            merged(self, instance)
        return instance

    return merge


@guarded("unsaved.told")
def told(session: Any, instance: Any) -> None:
    """A session was told to save or delete an object. Of those that one flush will send, the first is kept."""
    known = session.__dict__.get(_TOLD)
    if known is None or not _unsaved(session, known[0]):
        state = instance_state(instance)
        if _unsaved(session, state):
            session.__dict__[_TOLD] = state, call_site(sys._getframe(1))


@guarded("unsaved.merged")
def merged(session: Any, instance: Any) -> None:
    """A session was given an object that another one, or none, had."""
    if instance_state(instance) in session._new:  # noqa: SLF001  as below
        told(session, instance)


def _unsaved(session: Any, state: Any) -> bool:
    # Private, but looked at for each object: the public properties make a new set of all of them each time (2.0, 2.1).
    return any(state in states for states in (session._new, session._dirty_states, session._deleted))  # noqa: SLF001


@guarded("unsaved.flushed")
def on_after_flush(session: Any, _context: Any) -> None:
    """Whatever the session was told is sent."""
    session.__dict__.pop(_TOLD, None)


def wrap_close(original: Callable[..., None]) -> Callable[..., None]:
    """``Session.close()`` or ``reset()`` with a look at what goes with it."""

    @functools.wraps(original)
    def close(self: Any) -> None:
        if SWITCH.on:
            closing(self)
        original(self)

    return close


@guarded("unsaved.closing")
def closing(session: Any) -> None:
    """A session is about to forget its objects."""
    if session._is_clean():  # noqa: SLF001  private, and the very question (2.0 and 2.1)
        return
    request = REQUEST.get()
    if request is None or request.ended_at is not None or unwinding():
        return
    changed = [instance for instance in session.dirty if session.is_modified(instance)]
    unsaved = [*session.new, *session.deleted, *changed]
    state, site = session.__dict__.pop(_TOLD, (None, ()))
    if any(instance_state(instance) is state for instance in unsaved):
        judgement.never_sent(request, _pool_name(session, request), site, unsaved, told=True)
    elif changed and request.method in _CHANGING_METHODS and not request.writes:
        judgement.never_sent(request, _pool_name(session, request), (), changed, told=False)


def _pool_name(session: Any, request: Request) -> str:
    """The pool that the session uses, as far as that can be told without asking ``get_bind()``, which may be the
    app's own.
    """
    for checkout in list(request.open):
        if checkout.session == id(session):
            return checkout.pool.name
    engine = getattr(session.bind, "engine", None)
    return UNKNOWN if engine is None else POOLS.of(engine.pool).name


def install() -> None:
    """Hook every session."""
    for name in ("add", "delete"):
        setattr(Session, name, wrap_telling(getattr(Session, name)))
    Session.merge = wrap_merge(Session.merge)  # type: ignore[method-assign]
    for name in ("close", "reset"):
        setattr(Session, name, wrap_close(getattr(Session, name)))
    event.listen(Session, "after_flush", on_after_flush)
