"""PromQL written from the catalogue: a selector of a metric, label or label value that does not exist cannot be "
"built.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dbwatch.catalog import METRICS, Metric

#: Labels that Prometheus adds to every series it scrapes.
TARGET_LABELS = ("job", "instance")
#: What one pool of one process (or one group of workers behind one target) is called in a query.
POOL_LABELS = (*TARGET_LABELS, "pool")
HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")

_MATCHER = re.compile(r'^([a-zA-Z_][a-zA-Z0-9_]*)(=~|!~|!=|=)"')


def metric_of(series: str) -> Metric:
    """The catalogue's metric behind a series name such as ``dbwatch_hold_seconds_sum``; KeyError if there is none."""
    metric = METRICS.get(series)
    if metric is not None and metric.kind != "histogram":
        return metric
    for suffix in HISTOGRAM_SUFFIXES:
        if series.endswith(suffix):
            histogram = METRICS.get(series.removesuffix(suffix))
            if histogram is not None and histogram.kind == "histogram":
                return histogram
    raise KeyError(f"{series} is not a series of the catalogue")


@dataclass(frozen=True, slots=True)
class Selectors:
    """Writes instant vector selectors.

    ``matchers`` are added where the metric carries the label (dashboard variables such as ``pool=~"$pool"``),
    ``always`` to every selector (what a user passes as ``--selector``).
    """

    matchers: tuple[str, ...] = ()
    always: str = ""

    def __call__(self, series: str, **labels: str | Iterable[str]) -> str:
        """The selector of ``series`` with these label values; several values match any of them.

        Raises KeyError for a series or label and ValueError for a label value outside the catalogue.
        """
        metric = metric_of(series)
        parts = [self.always] if self.always else []
        for matcher in self.matchers:
            found = _MATCHER.match(matcher)
            if found is None:
                raise ValueError(f"not a label matcher: {matcher}")
            if found[1] in TARGET_LABELS or found[1] in metric.labels:
                parts.append(matcher)
        for label, wanted in labels.items():
            values = (wanted,) if isinstance(wanted, str) else tuple(wanted)
            _check_label(metric, series, label, values)
            parts.append(f'{label}="{values[0]}"' if len(values) == 1 else f'{label}=~"{"|".join(values)}"')
        return f"{series}{{{','.join(parts)}}}" if parts else series


def _check_label(metric: Metric, series: str, label: str, values: tuple[str, ...]) -> None:
    if label == "le":
        if not series.endswith("_bucket"):
            raise KeyError(f"{series} has no label le")
        allowed = tuple(str(bound) for bound in metric.buckets)
    elif label in metric.labels:
        allowed = metric.values if label == metric.labels[-1] else ()
    else:
        raise KeyError(f"{series} has no label {label}")
    if allowed and not set(values) <= set(allowed):
        raise ValueError(f"{series}: {label} is one of {', '.join(allowed)}, not {', '.join(values)}")


def rate(selector: str, window: str = "$__rate_interval", at: str = "") -> str:
    """Increase per second over the window that ends now, or ``at`` another time (as ``end()``)."""
    return f"rate({selector}[{window}]{f' @ {at}' if at else ''})"


def increase(selector: str, window: str = "$__rate_interval") -> str:
    """Increase over the window of a counter that exists from the start."""
    return f"increase({selector}[{window}])"


def events(selector: str, window: str = "$__rate_interval") -> str:
    """Increase over the window of a counter whose series is born at its first event, which increase() cannot see."""
    return f"(({selector} unless {selector} offset {window}) or increase({selector}[{window}]))"


def sum_by(labels: Iterable[str], expression: str) -> str:
    """Sum, keeping these labels."""
    return f"sum by ({', '.join(labels)}) ({expression})"


def max_by(labels: Iterable[str], expression: str) -> str:
    """Largest, keeping these labels: the worst instance, never the average one."""
    return f"max by ({', '.join(labels)}) ({expression})"


def min_by(labels: Iterable[str], expression: str) -> str:
    """Smallest, keeping these labels: of limits, the one that is reached first."""
    return f"min by ({', '.join(labels)}) ({expression})"


def quantile(q: float, buckets: str, labels: Iterable[str], window: str = "$__rate_interval", at: str = "") -> str:
    """Quantile of a histogram, one for each combination of these labels; nothing (instead of NaN) without traffic."""
    return f"(histogram_quantile({q}, sum by ({', '.join((*labels, 'le'))}) ({rate(buckets, window, at)})) >= 0)"
