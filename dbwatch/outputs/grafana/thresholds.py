"""What an installation can change about the rules: thresholds, which series, where the links lead."""

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from dbwatch.catalog import CHECKOUT_BUCKETS
from dbwatch.outputs.grafana.links import GRAFANA_URL, RUNBOOKS_URL
from dbwatch.outputs.grafana.promql import Selectors

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MATCHERS = re.compile(rf'{_LABEL.pattern}(=~|!~|!=|=)"[^"\n]*"(,\s*{_LABEL.pattern}(=~|!~|!=|=)"[^"\n]*")*')


def _option(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Every number in the alerts, in seconds, shares (0 to 1) or counts; ValueError for one that cannot work."""

    slo_seconds: float = _option(0.1, "A checkout slower than this is a bad one (a bound of the histogram).")
    slo_target: float = _option(0.999, "Share of checkouts that must not be bad.")
    burn_minimum: float = _option(10, "Bad checkouts in the window below which the burn alerts stay silent.")
    timeout_share: float = _option(0.01, "Share of checkouts that may time out before it pages.")
    connect_failure_share: float = _option(0.5, "Share of connection attempts that may fail before it pages.")
    oldest_waiter_share: float = _option(
        0.5, "Share of the pool timeout that the oldest waiter may reach before it pages."
    )
    leaked_share: float = _option(0.5, "Share of the limit that leaked connections may reach before it pages.")
    exhaustion_seconds: float = _option(3600, "Page if leaks will have used up the pool within this time.")
    exhausted_wait_seconds: float = _option(1, "Wait of the oldest waiter from which a pool counts as exhausted.")
    held_seconds: float = _option(60, "Age of a checkout from which it counts as held too long.")
    checkout_p95_seconds: float = _option(0.1, "95th percentile of checkout time that is high.")
    idle_share: float = _option(0.8, "Idle share of holds that is high.")
    loop_blocked_share: float = _option(0.1, "Share of the time an event loop may be blocked.")
    churn_share: float = _option(0.2, "Connections opened for each checkout that are too many.")
    pre_ping_failures: float = _option(5, "Pre-ping failures in ten minutes that are normal.")
    utilization_share: float = _option(0.8, "Used share of the limit that is high.")
    oversized_share: float = _option(0.3, "Share of the limit that a week's peak must reach, or the pool is oversized.")

    def __post_init__(self) -> None:
        if self.slo_seconds not in CHECKOUT_BUCKETS:
            bounds = ", ".join(f"{bound:g}" for bound in CHECKOUT_BUCKETS)
            raise ValueError(f"slo_seconds is {self.slo_seconds:g} and must be a bound of the histogram: {bounds}")
        for each in fields(self):
            value = getattr(self, each.name)
            is_share = each.name.endswith("_share") or each.name == "slo_target"
            if value < 0 or (is_share and not 0 < value < 1):
                allowed = "between 0 and 1" if is_share else "not negative"
                raise ValueError(f"{each.name} is {value:g} and must be {allowed}")

    @property
    def error_budget(self) -> float:
        """Share of checkouts that may be bad."""
        return round(1 - self.slo_target, 12)


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """Thresholds and surroundings of the rules.

    ``selector`` is added to every selector, as ``env="prod",pool!="listener"``. ``jobs`` are the jobs whose absence is
    an alert even if Prometheus has never seen them. ``group_by`` are labels besides ``job`` that tell installations
    apart, as ``cluster`` and ``namespace``.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    selector: str = ""
    jobs: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    runbooks_url: str = RUNBOOKS_URL
    grafana_url: str = GRAFANA_URL

    def __post_init__(self) -> None:
        if self.selector and not _MATCHERS.fullmatch(self.selector):
            raise ValueError(f'selector is {self.selector} and must be matchers like env="prod",pool!="listener"')
        for job in self.jobs:
            if not job or set(job) & set('"\\\n'):
                raise ValueError(f"job is {job!r} and must be a name without quotes and backslashes")
        for label in self.group_by:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"group_by is {label} and must be a label name")

    @property
    def series(self) -> Selectors:
        """Writes the selectors of the rules."""
        return Selectors(always=self.selector)

    @property
    def by_job(self) -> tuple[str, ...]:
        """Labels of what users see as one pool: all its instances together."""
        return (*self.group_by, "job", "pool")


def threshold_fields() -> Mapping[str, Field[float]]:
    """The thresholds by name, with default and meaning; the command line makes its options from them."""
    return {each.name: each for each in fields(Thresholds)}
