"""The rules: which facts make a finding. Each runs in the fold, after the ledger has added the fact up.

An accusation needs a proof; every threshold is an option, and what stays in doubt is left out.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from time import perf_counter
from types import CodeType

from sqlalchemy.exc import InvalidRequestError

from dbwatch.callsites import APP_CODE, LIMIT, Part, describe
from dbwatch.findings import FOUND
from dbwatch.idling import WATCH
from dbwatch.ledger import LEDGER
from dbwatch.pools import pool_limit
from dbwatch.records import (
    LONG_REQUEST_SECONDS,
    NO_REQUEST,
    UNKNOWN,
    Checkout,
    Evidence,
    Idling,
    Request,
    Site,
    WatchedPool,
)
from dbwatch.routes import endpoint_site
from dbwatch.settings import THRESHOLDS
from dbwatch.sqltext import shortened
from dbwatch.timeout_report import TimeoutReport

logger = logging.getLogger("dbwatch")


def accuse(request: Request, finding: str, pool: str, site: Site, detail: str, **numbers: float) -> Evidence:
    """Note a proven mistake with the request; it is reported at its end, once for each code line, as it was first."""
    request.notable = True
    if request.evidence is None:
        request.evidence = {}
    site = site or at_endpoint(request)
    key = (finding, site[:1])
    known = request.evidence.get(key)
    if known is None:
        known = request.evidence[key] = Evidence(pool, site, detail, numbers)
    else:
        known.count += 1
    return known


def at_endpoint(request: Request) -> Site:
    """Where the request's endpoint begins, for what no line of the app leads to; empty if it is not the app's own."""
    site = endpoint_site(request) or ()
    return site if site and APP_CODE.parts[site[0][0].co_filename] in (Part.APP, Part.INSTALLED) else ()


# Facts, each with the ledger's share first.


def attempt_ended(checkout: Checkout) -> None:
    """A checkout was served or gave up."""
    seconds = LEDGER.attempt_ended(checkout)
    pool = checkout.pool
    if pool.creator and (checkout.request is None or checkout.request.number != pool.creator):
        pool.creator = 0
    if not checkout.slow:
        return
    threshold = min(THRESHOLDS.slow_checkout_seconds, pool.half_timeout)
    phases = {"wait": checkout.wait, "connect": checkout.connect, "ping": checkout.ping}
    parts = [f"{value:.2f} s {name}" for name, value in phases.items() if value is not None]
    rest = seconds - sum(value or 0.0 for value in phases.values())
    if rest >= seconds / 2:
        parts.append(f"{rest:.2f} s in none of these: the event loop was busy, or a listener of the app's")
    FOUND.report(
        "slow_checkout",
        checkout.pool.name,
        checkout.request,
        checkout.site,
        message=f"The checkout took {seconds:.2f} s ({', '.join(parts)}); the threshold is {threshold:g} s.",
        numbers={"checkout_seconds": seconds, **{f"{name}_seconds": value or 0.0 for name, value in phases.items()}},
    )


def timed_out(report: TimeoutReport) -> None:
    """A checkout gave up waiting; the report was taken at that moment."""
    FOUND.report(
        "checkout_timeout",
        report.pool,
        report.request,
        report.site,
        message=report.text(),
        numbers={
            "waited_seconds": report.waited_seconds,
            "timeout_seconds": report.timeout_seconds,
            "used": report.used,
            "idle": report.idle,
            "waiters": report.waiters,
        },
    )


def leaked(checkout: Checkout) -> None:
    """A connection is still out although its request and its owner have ended."""
    # It may come back between the look that found it open and this fact; that is a fact of its own.
    if checkout.leaked or checkout.returned_at is not None:
        return
    checkout.leaked = True
    LEDGER.leaked(checkout)
    held = checkout.hold_seconds(perf_counter())
    leak = FOUND.report(
        "leaked_connection",
        checkout.pool.name,
        checkout.request,
        _with_last(checkout.site, checkout.made_at),
        message=f"The request has ended and its connection is still out, after {held:.2f} s and "
        f"{_count(checkout.statements, 'statement')}.{_session_made(checkout)}",
        numbers={"held_seconds": held, "statements": checkout.statements},
    )
    FOUND.still_out(checkout, leak)


def hold_ended(checkout: Checkout) -> None:
    """A connection was given back, thrown away, detached or reclaimed."""
    held = LEDGER.hold_ended(checkout)
    request = checkout.request
    if checkout.leaked:
        FOUND.came_back(checkout)
        LEDGER.after_fold(_say_returned, checkout)
    elif checkout.reclaimed:
        if not checkout.pool.shared:
            FOUND.report(
                "leaked_connection",
                checkout.pool.name,
                request or checkout.spawner,
                _with_last(checkout.site, checkout.made_at),
                message=f"Nobody gave the connection back; the garbage collector did, after {held:.2f} s."
                f"{_session_made(checkout)}",
                numbers={"held_seconds": held, "statements": checkout.statements},
            )
    elif request is not None:
        changes = checkout.changes
        if changes is not None and changes.lost and not checkout.outlived(request):
            accuse(
                request,
                "lost_write",
                checkout.pool.name,
                changes.site or checkout.site,
                f"{_count(changes.lost, 'statement')} changed rows and the connection went back without a commit.",
                statements=changes.lost,
            )
        if held - checkout.executing >= THRESHOLDS.idle_hold_seconds:
            judge_idle(checkout, held)
    if request is not None and request.ended_at is None and _is_long(request):
        _report_evidence(request)


def judge_idle(checkout: Checkout, held: float) -> None:
    """Report an idle hold, if it is one: enough idle time, half of the hold, and nothing streamed."""
    threshold = THRESHOLDS.idle_hold_seconds
    idling = checkout.idling or Idling()
    idle = held - checkout.executing - idling.excused
    if min(idle, WATCH.idle_at_most(checkout)) < threshold or idle < held / 2 or checkout.running or idling.reported:
        return
    if checkout.streaming or checkout.interrupted or not checkout.statements:
        return  # what happened meanwhile is not known
    checkout.idling = idling
    idling.reported = True
    request = checkout.request
    end = checkout.returned_at if checkout.returned_at is not None else perf_counter()
    after = 0.0
    if request is not None and request.response_started_at is not None and checkout.taken_at is not None:
        after = max(0.0, end - max(request.response_started_at, checkout.taken_at))
    how = f", {after:.2f} s of it after the response had started" if after >= min(threshold, 0.1) else ""
    seen = idling.site
    where = f", seen at {describe(seen)[0]}" if seen else ""
    FOUND.report(
        "idle_hold",
        checkout.pool.name,
        request,
        _with_last(checkout.site, seen),
        message=f"The connection was held for {held:.2f} s, {idle:.2f} s of it idle{how}{where}; "
        f"{_count(checkout.statements, 'statement')} ran {checkout.executing:.2f} s.",
        numbers={
            "held_seconds": held,
            "idle_seconds": idle,
            "executing_seconds": checkout.executing,
            "after_response_seconds": after,
        },
    )


def judge_open(pool: WatchedPool) -> None:
    """A look at the holds of long requests (streams, websockets) that are still open: their end may be hours away."""
    now = perf_counter()
    for checkout in list(pool.open):
        request = checkout.request
        if request is None or checkout.leaked or not _is_long(request):
            continue
        judge_idle(checkout, checkout.hold_seconds(now))


def request_ended(request: Request) -> None:
    """A request ended that had tried at least one checkout, or against which there is evidence."""
    if request.tried:
        LEDGER.request_ended(request)
    if request.evidence or request.blocked_at is not None:
        _report_evidence(request)


def _report_evidence(request: Request) -> None:
    if request.blocked_at is not None and request.blocked > 0:
        pool, site = request.blocked_at
        request.blocked_at = None
        FOUND.report(
            "blocked_event_loop",
            pool,
            request,
            site,
            message=f"The event loop stood still for {request.blocked:.4f} s in this request, first here.",
            numbers={"blocked_seconds": request.blocked},
        )
    for finding, proof in proven(request):
        numbers = {**proof.numbers, "count": proof.count}
        FOUND.report(finding, proof.pool, request, proof.site, message=_message(proof), numbers=numbers)
    request.evidence = None


def proven(request: Request) -> Iterator[tuple[str, Evidence]]:
    """What has been proven against a request so far and will be reported at its end: names of findings, with proof."""
    for (finding, _), proof in list((request.evidence or {}).items()):
        if finding == "lost_write" and not _succeeded(request):
            continue
        if proof.before is None or proof.before == request.writes:
            yield finding, proof


def _message(proof: Evidence) -> str:
    return f"{proof.detail} ({proof.count} times in this request)" if proof.count > 1 else proof.detail


def _succeeded(request: Request) -> bool:
    """True if the client was told that all went well: a status below 400, or a websocket that was accepted and not
    closed with an error.
    """
    return not request.failed and request.status is not None and request.status < 400


def _is_long(request: Request) -> bool:
    return request.ended_at is None and perf_counter() - request.started_at > LONG_REQUEST_SECONDS


def _say_returned(checkout: Checkout) -> None:
    held = checkout.hold_seconds(perf_counter())
    how = "reclaimed by the garbage collector" if checkout.reclaimed else "given back"
    route = checkout.request.route if checkout.request is not None else NO_REQUEST
    logger.info(
        "A connection of pool %s that was reported as leaked by %s has been %s after %.2f s.",
        checkout.pool.name,
        route,
        how,
        held,
        extra={"dbwatch_pool": checkout.pool.name, "dbwatch_route": route, "dbwatch_held_seconds": held},
    )


# Accusations made by the hooks while the request runs.


def second_checkout(outer: Checkout, inner: Checkout, request: Request) -> None:
    """A request took a connection while it held one of the same pool."""
    pool = inner.pool.pool()
    limit = pool_limit(pool) if pool is not None else math.inf
    if limit == math.inf:
        return  # nobody waits for anybody
    connections = sum(1 for checkout in list(request.open) if checkout.pool is inner.pool)
    # The largest number of such requests that cannot all be stuck at once, from T x (C - 1) + 1 <= limit (HikariCP,
    # "About Pool Sizing": the smallest pool that T threads needing C connections each cannot deadlock).
    safe = int((limit - 1) // (connections - 1))
    outer_lines = outer.site[:1]
    where = f", the first at {outer_lines[0][0].co_qualname} line {outer_lines[0][1]}" if outer_lines else ""
    detail = (
        f"{connections} connections of one pool are held at once{where}. With a limit of {limit:g}, "
        f"{safe + 1} such requests at once can wait for each other; {safe} cannot. N requests need a limit of "
        f"N x {connections - 1} + 1."
    )
    numbers: dict[str, float] = {"connections": connections, "limit": limit, "safe_requests": safe}
    proof = accuse(request, "nested_checkout", inner.pool.name, inner.site, detail, **numbers)
    if connections > proof.numbers["connections"]:  # a third one at the line of the second
        proof.detail, proof.numbers = detail, numbers


def repeated(request: Request, checkout: Checkout, statement: str, site: Site, times: int) -> None:
    """The same SELECT reached the threshold; told once, however often it runs after that."""
    accuse(
        request,
        "repeated_statement",
        checkout.pool.name,
        site,
        f"This SELECT ran {times} times or more in a row: {shortened(statement)}",
        times=times,
    )


def shared(request: Request, checkout: Checkout, site: Site, how: str) -> None:
    """One connection, and so one session, is used by several requests or tasks at once. Whether a request took it is
    a number of the finding: a test may lend its own connection to several.
    """
    site = _with_last(site, checkout.made_at)
    detail = f"{how}{_session_made(checkout)}"
    taken = float(checkout.request is not None)
    accuse(request, "shared_session", checkout.pool.name, site, detail, taken_by_request=taken)


def never_sent(request: Request, pool: str, site: Site, instances: Sequence[object], *, told: bool) -> None:
    """A session was closed, and no statement had been sent for objects that it was ``told`` to save or delete, or that
    were changed. Another session may yet save them: what the request writes after this refutes it.
    """
    names = ", ".join(sorted({type(instance).__name__ for instance in instances})[:3])
    objects = f"{_count(len(instances), 'object')} ({names})"
    detail = (
        f"The session was closed and had sent nothing for {objects} that it was told to save or delete."
        if told
        else f"The session was closed with {objects} changed and not saved, and this {request.method} wrote nothing."
    )
    proof = accuse(request, "lost_write", pool, site, detail, objects=len(instances))
    if proof.count == 1:
        proof.before = request.writes


def stale(checkout: Checkout, site: Site, error: str) -> None:
    """The first statement on a pooled connection met a dead server."""
    request = checkout.request
    if request is not None:
        accuse(
            request,
            "stale_connection",
            checkout.pool.name,
            site,
            f"The first statement on a connection from the pool failed with {error}; pool_pre_ping is off.",
        )


def engine_again(request: Request, pool: str, site: Site, engines: int) -> None:
    """The same line made another engine for the same URL, in a request that began after the first had ended."""
    accuse(
        request,
        "engine_per_request",
        pool,
        site,
        f"This line has created {engines} engines for the same URL so far.",
        engines=engines,
    )


def refused_concurrency(request: Request, error: InvalidRequestError) -> None:
    """SQLAlchemy itself refused to let two tasks use one session: before any connection was taken, nothing else tells.

    Closing the session in the midst of it is refused as well: the first refusal of the chain names the line.
    """
    refusal: BaseException | None = None
    link: BaseException | None = error
    for _ in range(20):  # `raise error from error` makes a chain without end
        if link is None:
            break
        if _refuses_concurrency(link):
            refusal = link
        link = link.__cause__ or link.__context__
    if refusal is None:
        return
    site: list[tuple[CodeType, int]] = []
    trace = refusal.__traceback__
    while trace is not None:
        if APP_CODE.owns(trace.tb_frame.f_code):
            site.insert(0, (trace.tb_frame.f_code, trace.tb_lineno))
        trace = trace.tb_next
    accuse(request, "shared_session", UNKNOWN, tuple(site[:LIMIT]), f"SQLAlchemy refused it: {refusal}")


def _refuses_concurrency(error: BaseException) -> bool:
    """``isce`` is the code of IllegalStateChangeError; the older refusal has only its text (2.0 and 2.1)."""
    if not isinstance(error, InvalidRequestError):
        return False
    return error.code == "isce" or "concurrent operations are not permitted" in str(error)


def _with_last(site: Site, other: Site) -> Site:
    """Some lines with the first of others as the last, unless it is among them."""
    return site if not other or other[0] in site else (*site[: LIMIT - 1], other[0])


def _session_made(checkout: Checkout) -> str:
    return f" The session was made at {describe(checkout.made_at)[0]}." if checkout.made_at else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
