"""One connection, two users: tasks or requests that share a session, or a pool that has given it to two."""

import sys
from weakref import ref

from sqlalchemy.pool import PoolProxiedConnection

from dbwatch import judgement
from dbwatch.callsites import call_site
from dbwatch.records import Checkout, Request


def runs_beside_another(checkout: Checkout, what: object, proxy: object) -> bool:
    """False if it is what runs already, seen by a dialect's override, or no part of the hold. Else a second one begins
    while one is in flight: two tasks have one session. The hold executes while any of them runs.
    """
    if checkout.running_what is what or _given_to_two(checkout, proxy):
        return False
    checkout.also_running += 1
    beside_a_stranger = _given_to_two(checkout, checkout.running_what)  # a ROLLBACK, which runs through a proxy
    if checkout.request is not None and not checkout.pool.shared and not beside_a_stranger:
        judgement.shared(
            checkout.request,
            checkout,
            call_site(sys._getframe(2)),
            "A statement began on this connection while another was still running on it.",
        )
    return True


def used_by(checkout: Checkout, request: Request | None, proxy: object) -> bool:
    """A statement runs for another request than the one that took the connection. False if it is no part of the hold.

    Nobody's connection (taken in the lifespan, by a test) may serve one request after the other; two at once may not
    share it. A request that has ended speaks for the task it has spawned, not for itself.
    """
    if request is None or request.ended_at is not None or checkout.pool.shared:
        return True
    if _given_to_two(checkout, proxy):
        return False
    if checkout.request is not None:
        how = "A statement ran on a connection that another request had taken."
    else:
        before, checkout.user = checkout.user, ref(request)
        other = None if before is None else before()
        if other is None or other is request or other.ended_at is not None:
            return True
        how = "Two requests ran statements on one connection, the second before the first had ended."
    judgement.shared(request, checkout, call_site(sys._getframe(2)), how)
    return True


def _given_to_two(checkout: Checkout, through: object) -> bool:
    """True if a statement comes through another proxy than the one that was checked out: the pool itself has given one
    connection to two. SQLAlchemy 2.1.9 returns a record twice if a task is cancelled while the garbage collector, in
    it, terminates an abandoned connection of aiosqlite. No session is shared then.
    """
    taken = None if checkout.proxy is None else checkout.proxy()
    return taken is not None and through is not taken and isinstance(through, PoolProxiedConnection)
