"""What dbwatch says of a variant, read from its live page and its metrics, as anybody could."""

import json
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from demo_app.app import LIVE_PAGE
from demo_app.processes import DemoError

_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Said:
    """One group of findings: what, where, how often. ``line`` is ``file:line function``, empty if unknown."""

    finding: str
    line: str
    count: int

    @property
    def place(self) -> str:
        """The ``file:line`` of it."""
        return self.line.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class PoolHistory:
    """The pool, a sample a second."""

    at: tuple[float, ...]
    used: tuple[int, ...]
    waiters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """What dbwatch says at the end. ``advice`` and ``remarks`` are those of the pool that did the work.

    ``opened`` counts connections, ``checkouts`` those that got one; ``connect_seconds`` is the mean of opening one.
    """

    findings: tuple[Said, ...]
    arithmetic: str
    mean_needed: float
    p99_needed: int
    remarks: dict[str, str]
    opened: int
    checkouts: int
    connect_seconds: float
    history: PoolHistory


def ask(url: str) -> Reported:
    """Ask the app at ``url``. Raises DemoError if it does not answer."""
    state = json.loads(_read(f"{url}{LIVE_PAGE}/api/state"))
    totals = _totals(_read(f"{url}/metrics"))
    pool = max(state["pools"], key=lambda pool: pool["checkout"]["count"])
    history = pool["history"]
    connects = totals.get("dbwatch_checkout_phase_seconds_count", {}).get("connect", 0)
    return Reported(
        findings=tuple(
            Said(group["finding"], group["lines"][0] if group["lines"] else "", group["count"])
            for group in sorted(state["findings"], key=lambda group: -group["count"])
        ),
        arithmetic=pool["advice"]["arithmetic"],
        mean_needed=pool["advice"]["mean_needed"],
        p99_needed=pool["advice"]["p99_needed"] or 0,
        remarks={remark["setting"]: remark["text"] for remark in pool["remarks"]},
        opened=int(sum(totals.get("dbwatch_connections_opened_total", {}).values())),
        checkouts=int(totals.get("dbwatch_checkout_seconds_count", {}).get("ok", 0)),
        connect_seconds=totals["dbwatch_checkout_phase_seconds_sum"]["connect"] / connects if connects else 0.0,
        history=PoolHistory(tuple(history["at"]), tuple(history["used"]), tuple(history["waiters"])),
    )


def held_seconds(url: str) -> float:
    """How long connections have been held in all, by the app's metrics. Raises DemoError if it does not answer."""
    return sum(_totals(_read(f"{url}/metrics")).get("dbwatch_hold_seconds_sum", {}).values())


def _read(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS) as answer:  # noqa: S310
            text: str = answer.read().decode()
    except OSError as error:
        raise DemoError(f"{url} does not answer ({error}); look at the end of the app's log above.") from None
    return text


def _totals(metrics: str) -> dict[str, dict[str, float]]:
    """Samples by name, added up over all pools; by outcome or phase where they have one."""
    totals: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            by = totals.setdefault(sample.name, {})
            label = sample.labels.get("outcome") or sample.labels.get("phase") or ""
            by[label] = by.get(label, 0.0) + sample.value
    return totals
