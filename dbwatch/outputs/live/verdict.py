"""The verdict on a pool: one sentence that says whether it is healthy, and if not, who is in the way."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dbwatch.outputs.live.document import Gauges, HolderRow, Level, Verdict
from dbwatch.records import NO_REQUEST

#: A wait that lasts longer is no longer the ordinary jostling of a busy pool.
LONG_WAIT_SECONDS: Final = 0.1
#: Checkouts slower than this at the 95th percentile are felt by users.
SLOW_CHECKOUT_SECONDS: Final = 0.1
#: Of fewer checkouts one or two are the 95th percentile, and the first ones open connections.
ENOUGH_CHECKOUTS: Final = 40
#: Samples with overflow in a row from which the overflow is part of everyday work.
OVERFLOW_SAMPLES: Final = 60
#: A connection that is held for longer is none of those that change hands all the time.
LONG_HOLD_SECONDS: Final = 5.0
#: The part of the limit that so held leaves too little for all other requests.
NEARLY_ALL: Final = 0.8

_ORDER: Final[dict[Level, int]] = {"ok": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Recent:
    """What the last minute brought: timeouts, checkouts, the 95th percentile of their time (None without any) and its
    largest phase, and the least overflow in any sample.
    """

    timeouts: int = 0
    checkouts: int = 0
    checkout_p95: float | None = None
    largest_phase: str = ""
    least_overflow: int = 0


def judge(now: Gauges, holders: Sequence[HolderRow], recent: Recent) -> Verdict:
    """The verdict on a pool of one worker. The worst fact decides; the sentence carries the numbers."""
    return _starved(now, holders, recent) or _strained(now, holders, recent) or _healthy(now, recent)


def _starved(now: Gauges, holders: Sequence[HolderRow], recent: Recent) -> Verdict | None:
    held, culprits = _held(now), _culprits(holders)
    if now["waiters"] and (now["oldest_waiter_seconds"] >= LONG_WAIT_SECONDS or recent.timeouts):
        since = seconds(now["oldest_waiter_seconds"])
        return _say("critical", f"{_requests(now['waiters'])} waiting, oldest {since}: {held}{culprits}.")
    if recent.timeouts:
        failed = f"{_count(recent.timeouts, 'checkout')} gave up waiting in the last minute"
        return _say("critical", f"{failed}; now {held}{culprits}.")
    return _leaking(now, holders) if now["leaked"] else None


def _strained(now: Gauges, holders: Sequence[HolderRow], recent: Recent) -> Verdict | None:
    held, culprits, limit = _held(now), _culprits(holders), now["limit"]
    if limit is not None and now["used"] >= limit and now["used"] > 0:
        return _say("warning", f"Nothing left: {held}{culprits}. The next request has to wait.")
    long_held = sum(holder["age_seconds"] >= LONG_HOLD_SECONDS for holder in holders)
    if limit is not None and long_held and long_held >= NEARLY_ALL * limit:
        since = f"{long_held} of them for more than {LONG_HOLD_SECONDS:.0f} s"
        return _say("warning", f"Little left: {held}, {since}{culprits}.")
    enough = recent.checkouts >= ENOUGH_CHECKOUTS
    if enough and recent.checkout_p95 is not None and recent.checkout_p95 >= SLOW_CHECKOUT_SECONDS:
        mostly = f", most of it {_PHASE_WORDS[recent.largest_phase]}" if recent.largest_phase in _PHASE_WORDS else ""
        slow = f"Getting a connection is slow: p95 {seconds(recent.checkout_p95)} in the last minute{mostly}"
        return _say("warning", f"{slow}; {held}.")
    if recent.least_overflow:
        return _say(
            "warning",
            f"Overflow in use for a minute: {held}, never fewer than {recent.least_overflow} above the size of "
            f"{now['size']}. Each of them is opened and closed again.",
        )
    return None


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The most serious verdict, the first of equals."""
    return max(verdicts, key=seriousness)


def seriousness(verdict: Verdict) -> int:
    """A number that is higher the more serious a verdict is."""
    return _ORDER[verdict["level"]]


def overall(pools: Sequence[tuple[str, Verdict]]) -> Verdict:
    """The verdict on several pools: how many are in what state."""
    if not pools:
        return _say("ok", "No pool yet: no engine has been created.")
    level = worst([verdict for _, verdict in pools])["level"]
    if level == "ok":
        return _say("ok", "Healthy" if len(pools) == 1 else f"All {len(pools)} pools healthy")
    named = [name for name, verdict in pools if verdict["level"] == level]
    what = "in trouble" if level == "critical" else "under strain"
    return _say(level, f"{', '.join(named)} {what}")


_PHASE_WORDS: Final = {
    "wait": "waiting in the queue",
    "connect": "opening connections",
    "ping": "pre-ping",
}


def _leaking(now: Gauges, holders: Sequence[HolderRow]) -> Verdict:
    leaked = [holder for holder in holders if holder["state"] == "leaked"]
    places = {_where(holder) for holder in leaked}
    by = f" by {places.pop()}" if len(places) == 1 else f" by {len(places)} routes" if places else ""
    limit = now["limit"]
    of = f" of {limit}" if limit is not None else ""
    grave = limit is not None and now["leaked"] * 2 >= limit
    return _say(
        "critical" if grave else "warning",
        f"{now['leaked']}{of} connections leaked{by}: nobody will give {'it' if now['leaked'] == 1 else 'them'} back. "
        f"{now['used']} used, {_nobody_or(now['waiters'])}.",
    )


def _healthy(now: Gauges, recent: Recent) -> Verdict:
    limit = now["limit"]
    of = f" of {limit}" if limit is not None else ""
    used = f"{now['used']}{of} connections used" if now["used"] else "no connection in use"
    p95 = f", checkout p95 {seconds(recent.checkout_p95)}" if recent.checkout_p95 is not None else ""
    return _say("ok", f"Healthy: {used}, {_nobody_or(now['waiters'])}{p95}.")


def _held(now: Gauges) -> str:
    limit = now["limit"]
    if limit is None:
        return f"{_count(now['used'], 'connection')} held"
    if now["used"] >= limit:
        return f"pool of {limit} fully held"
    return f"{now['used']} of {limit} held"


def _culprits(holders: Sequence[HolderRow]) -> str:
    """``, 12 of 15 idle in GET /reports``: the largest group, or the largest states if no route stands out."""
    total = len(holders)
    if total < 2:
        return f", {holders[0]['state']} in {_where(holders[0])}" if holders else ""
    groups = Counter((holder["state"], _where(holder)) for holder in holders)
    (state, where), most = groups.most_common(1)[0]
    if most * 2 >= total:
        return f", {most} of {total} {state} in {where}"
    states = Counter(holder["state"] for holder in holders)
    return ", " + ", ".join(f"{number} {state}" for state, number in states.most_common())


def _where(holder: HolderRow) -> str:
    if holder["method"] == NO_REQUEST:
        return "code outside requests"
    return f"{holder['method']} {holder['route']}"


def _say(level: Level, text: str) -> Verdict:
    return {"level": level, "text": text}


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"


def _nobody_or(waiters: int) -> str:
    return f"{waiters} waiting" if waiters else "nobody waiting"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def seconds(value: float) -> str:
    """A duration for people: ``0.4 ms``, ``12 ms``, ``1.4 s``, ``95 s``."""
    if value < 0.0995:
        return f"{value * 1e3:.1f} ms" if value < 0.00995 else f"{value * 1e3:.0f} ms"
    return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
