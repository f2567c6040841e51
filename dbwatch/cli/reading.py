"""Reading a running app from outside: its live page's state, or its metrics page."""

import base64
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from dbwatch.facts import Remark
from dbwatch.outputs import prometheus
from dbwatch.outputs.live import quantiles, sizing, verdict
from dbwatch.outputs.live.document import Advice, FindingGroup, Gauges, Level, Verdict
from dbwatch.outputs.live.history import whole
from dbwatch.outputs.live.remarks import Configuration, remarks
from dbwatch.settings import THRESHOLDS

_TIMEOUT_SECONDS: Final = 15.0

#: A metrics page: values by name, then by labels.
Page = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]


class UnreadableError(Exception):
    """The address does not answer with a state or metrics of dbwatch. The message says what it does answer."""


@dataclass(frozen=True, slots=True)
class SeenPool:
    """A pool of the app: how it is, and what to change."""

    name: str
    verdict: Verdict
    advice: Advice
    remarks: list[Remark]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read. Findings with their code lines are known from the live page only."""

    verdict: Verdict
    pools: list[SeenPool]
    findings: list[FindingGroup]

    @property
    def level(self) -> Level:
        """The worst level of any pool."""
        return self.verdict["level"]


def read(url: str, user: str, seconds: int) -> Seen:
    """Read the app behind a URL of its live page, its state, or its metrics page; the latter over ``seconds``.

    Raises:
        UnreadableError: nothing of dbwatch is there.
    """
    if not url.startswith(("http://", "https://")):
        raise UnreadableError(f"{url!r} is no http:// or https:// address.")
    kind, body = _get(url, user)
    if kind == "text/html":
        url = f"{url.rstrip('/')}/api/state"
        kind, body = _get(url, user)
    if kind == "application/json":
        return _of_state(url, body)
    return _of_pages(url, body, seconds, lambda: _get(url, user)[1])


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, and shows the password to no other host."""

    def redirect_request(self, req: Request, *args: Any) -> Request | None:
        """The request that follows."""
        following = super().redirect_request(req, *args)
        if following is not None and following.host != req.host:
            following.remove_header("Authorization")
        return following


def _get(url: str, user: str) -> tuple[str, str]:
    headers = {"Accept": "application/json, text/html;q=0.9, text/plain;q=0.8"}
    if user:
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    try:
        request = Request(url, headers=headers)  # noqa: S310 - http and https only, as was looked at
        with build_opener(_Redirects).open(request, timeout=_TIMEOUT_SECONDS) as answer:
            return answer.headers.get_content_type(), answer.read().decode("utf-8", "replace")
    except HTTPError as error:
        hint = {
            401: " Give --user NAME:PASSWORD.",
            403: " The live page is for clients of its own machine unless dashboard_auth is set.",
            404: " Give the path of the live page, as http://localhost:8000/dbwatch, or of the metrics.",
        }.get(error.code, "")
        raise UnreadableError(f"{url} answers with status {error.code}.{hint}") from None
    except (OSError, HTTPException) as error:
        raise UnreadableError(f"{url} cannot be read: {getattr(error, 'reason', error)}.") from None


def _of_state(url: str, body: str) -> Seen:
    try:
        state: Any = json.loads(body)
        return Seen(
            state["verdict"],
            [
                SeenPool(
                    pool["name"], pool["verdict"], pool["advice"], [Remark(**remark) for remark in pool["remarks"]]
                )
                for pool in state["pools"]
            ],
            state["findings"],
        )
    except (ValueError, KeyError, TypeError):
        raise UnreadableError(f"{url} answers with JSON that is no state of dbwatch of this version.") from None


def _of_pages(url: str, body: str, seconds: int, again: Callable[[], str]) -> Seen:
    pages = [_page(url, body)]
    for _ in range(seconds):
        time.sleep(1.0)
        pages.append(_page(url, again()))
    pools = [_pool(name, pages) for name in sorted(_values(pages[-1], "dbwatch_pool_size", "pool"))]
    return Seen(verdict.overall([(pool.name, pool.verdict) for pool in pools]), pools, [])


def _page(url: str, body: str) -> Page:
    page: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    try:
        for name, labels, value in prometheus.samples(body):
            page[name][tuple(sorted(labels.items()))] = value
    except ValueError:
        raise UnreadableError(f"{url} is neither a live page nor a metrics page.") from None
    if "dbwatch_build_info" not in page:
        raise UnreadableError(f"{url} has no metrics of dbwatch.")
    return page


def _values(page: Page, name: str, by: str, **wanted: str) -> dict[str, float]:
    """The samples of a name that carry these labels, added up by the value of one label."""
    sums: dict[str, float] = {}
    for labels, value in page.get(name, {}).items():
        found = dict(labels)
        if wanted.items() <= found.items() and by in found:
            sums[found[by]] = sums.get(found[by], 0.0) + value
    return sums


def _pool(name: str, pages: list[Page]) -> SeenPool:
    first, last = pages[0], pages[-1]

    def value(page: Page, metric: str, **labels: str) -> float:
        return _values(page, metric, "pool", pool=name, **labels).get(name, 0.0)

    def added(metric: str) -> float:
        return value(last, metric) - value(first, metric)

    now = _gauges(lambda metric, **labels: value(last, metric, **labels))
    needed = [
        int(
            value(page, "dbwatch_pool_connections", state="used")
            - value(page, "dbwatch_pool_leaked_connections")
            + value(page, "dbwatch_pool_waiters")
        )
        for page in pages
    ]
    holds, held = added("dbwatch_hold_seconds_count"), added("dbwatch_hold_seconds_sum")
    attributes = _attributes(last, name)
    advice = sizing.advise(
        rate=holds / max(1, len(pages) - 1),
        hold=held / holds if holds else 0.0,
        samples=len(pages),
        needed_p99=quantiles.of_samples(needed, 0.99),
        needed_peak=max(*needed, now["used_peak"] - now["leaked"]) if len(needed) > 1 else needed[0],
        size=now["size"],
        limit=now["limit"],
        pools_connections="QueuePool" in attributes.get("pool_class", ""),
    )
    configuration = Configuration(
        attributes,
        size=now["size"],
        limit=now["limit"],
        timeout=now["timeout_seconds"],
        server_allows=int(value(last, "dbwatch_server_max_connections")) or None,
    )
    said = [remark for remark in remarks(configuration) if remark.name not in THRESHOLDS.ignore_advice]
    recent = verdict.Recent(timeouts=int(added("dbwatch_checkout_timeouts_total")))
    return SeenPool(name, verdict.judge(now, (), recent), advice, said)


def _attributes(page: Page, name: str) -> dict[str, str]:
    for labels in page.get("dbwatch_pool_info", {}):
        found = dict(labels)
        if found.get("pool") == name:
            return found
    return {}


def _gauges(value: Callable[..., float]) -> Gauges:
    return {
        "used": int(value("dbwatch_pool_connections", state="used")),
        "idle": int(value("dbwatch_pool_connections", state="idle")),
        "size": int(value("dbwatch_pool_size")),
        "limit": whole(value("dbwatch_pool_limit")),
        "overflow": int(value("dbwatch_pool_overflow_connections")),
        "waiters": int(value("dbwatch_pool_waiters")),
        "leaked": int(value("dbwatch_pool_leaked_connections")),
        "used_peak": int(value("dbwatch_pool_used_peak_connections")),
        "oldest_waiter_seconds": value("dbwatch_pool_oldest_waiter_seconds"),
        "oldest_checkout_seconds": value("dbwatch_pool_oldest_checkout_seconds"),
        "timeout_seconds": whole(value("dbwatch_pool_timeout_seconds")),
    }
