"""The OpenTelemetry output: the metrics of the catalogue under the names of the semantic conventions, and what a
request did with the pools on its span.

This is the only module that imports opentelemetry, and it is imported only where the app has done so before. Counters
and gauges are read when the app's reader collects; OpenTelemetry knows no such thing for histograms, so single
observations are handed on after the fold that counted them.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation
from opentelemetry.trace import Span, format_span_id, format_trace_id, set_span_in_context

from dbwatch import catalog
from dbwatch.callsites import describe
from dbwatch.facts import Finding, RequestTotals
from dbwatch.guard import guarded
from dbwatch.judgement import proven
from dbwatch.ledger import Ledger
from dbwatch.outputs.series import Series, Source
from dbwatch.records import Checkout, Request
from dbwatch.version import __version__

#: Labels of the catalogue as attributes of the semantic conventions; every other one is called ``dbwatch.<label>``.
_ATTRIBUTES: Final = {
    "pool": "db.client.connection.pool.name",
    "state": "db.client.connection.state",
    "method": "http.request.method",
    "route": "http.route",
}
#: Units of the semantic conventions, by name or by the catalogue's unit, where they are not its word in braces.
_UNITS: Final = {
    "seconds": "s",
    "ratio": "1",
    "db.client.connection.pending_requests": "{request}",
    "db.client.connection.timeouts": "{timeout}",
}
#: The phases of a checkout are one metric in the catalogue; the conventions have a name for one of them only.
_PHASES: Final = {
    "wait": "dbwatch.checkout.wait",
    "connect": "db.client.connection.create_time",
    "ping": "dbwatch.checkout.ping",
}
_IDLE_MIN: Final = "db.client.connection.idle.min"
#: Seconds after which what was read for one instrument is too old for another.
_READING_SECONDS: Final = 1.0


def meter_provider() -> MeterProvider | None:
    """The MeterProvider that the app has configured, None without one."""
    provider = metrics.get_meter_provider()
    return None if _is_stand_in(provider) else provider


def traces_are_recorded() -> bool:
    """True if the app has configured a TracerProvider."""
    return not _is_stand_in(trace.get_tracer_provider())


def _is_stand_in(provider: object) -> bool:
    """True for the API's own providers, which do nothing. Their classes are partly private."""
    return type(provider).__module__.startswith((metrics.__name__, trace.__name__))


class Metrics:
    """The instruments of this process on one MeterProvider."""

    def __init__(
        self, provider: MeterProvider, source: Source, after_fold: Callable[[Callable[[Any], object], Any], None]
    ) -> None:
        self._source = source
        self._after_fold = after_fold
        self._reading: Mapping[str, Series] = {}
        self._read_at = -math.inf
        self._read_by: set[str] = set()
        self._histograms: dict[str, Histogram] = {}
        meter = provider.get_meter("dbwatch", __version__)
        for metric in catalog.METRICS.values():
            if metric.otel:
                self._make(meter, metric)
        meter.create_observable_up_down_counter(
            _IDLE_MIN,
            [self._idle_min],
            "{connection}",
            "Idle connections the pool keeps at least: SQLAlchemy's pools open none before they are needed.",
        )

    def _make(self, meter: Meter, metric: catalog.Metric) -> None:
        unit = _UNITS.get(metric.otel) or _UNITS.get(metric.unit) or f"{{{metric.unit.removesuffix('s')}}}"
        if metric.kind == "histogram":
            names = _PHASES.values() if "phase" in metric.labels else [metric.otel]
            for name in names:
                self._histograms[name] = meter.create_histogram(
                    name, unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
                )
            return
        make: Callable[..., object] = {
            ("counter", "sum"): meter.create_observable_counter,
            ("gauge", "sum"): meter.create_observable_up_down_counter,
            ("gauge", "max"): meter.create_observable_gauge,
        }[metric.kind, metric.aggregation]
        make(metric.otel, [self._callback(metric)], unit, metric.help)

    # Counters and gauges: read when a reader of the app collects.

    def _callback(self, metric: catalog.Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            return _observations(self._series, metric) or ()

        return observe

    def _idle_min(self, _options: CallbackOptions) -> Iterable[Observation]:
        return _observations(self._no_minimum, catalog.METRICS["dbwatch_pool_size"]) or ()

    def _no_minimum(self, _name: str) -> Series:
        return dict.fromkeys(self._series("dbwatch_pool_size", asker=_IDLE_MIN), 0)

    def _series(self, name: str, asker: str = "") -> Series:
        """The series of a metric. One collection asks for every metric once, so one reading serves all of it; whoever
        asks a second time begins another.
        """
        asker = asker or name
        if asker in self._read_by or time.monotonic() - self._read_at > _READING_SECONDS:
            accumulators = self._source.accumulators()
            counters = {
                family: {labels: cell.value for labels, cell in list(cells.items())}
                for family, cells in accumulators.counters.items()
            }
            self._reading = {**counters, **self._source.gauges()}
            self._read_at = time.monotonic()
            self._read_by = set()
        self._read_by.add(asker)
        return self._reading.get(name, {})

    # Histograms: told in the fold, recorded after it. The SDK's locks must not be taken under the ledger's: a reader
    # that collects may hold them while it asks for a fold.

    @guarded("opentelemetry.attempt_ended")
    def attempt_ended(self, checkout: Checkout) -> None:
        """A checkout was served or gave up. ``wait_time`` is defined for connections that were obtained only."""
        assert checkout.taken_at is not None
        phases = (("wait", checkout.wait), ("connect", checkout.connect), ("ping", checkout.ping))
        seconds = {_PHASES[phase]: value for phase, value in phases if value is not None}
        if checkout.outcome == "ok":
            seconds["db.client.connection.wait_time"] = checkout.taken_at - checkout.asked_at
        self._observe(seconds, checkout.request, pool=checkout.pool.name)

    @guarded("opentelemetry.hold_ended")
    def hold_ended(self, checkout: Checkout) -> None:
        """A connection was given back, thrown away, detached or reclaimed."""
        assert checkout.returned_at is not None
        seconds = {"db.client.connection.use_time": checkout.hold_seconds(checkout.returned_at)}
        self._observe(seconds, checkout.request, pool=checkout.pool.name)

    @guarded("opentelemetry.request_ended")
    def request_ended(self, request: Request, labels: tuple[str, str]) -> None:
        """A request ended that had tried at least one checkout."""
        seconds = {
            "dbwatch.request.checkout": request.checkout_seconds,
            "dbwatch.request.hold": request.hold_seconds + request.held_at_end,
        }
        self._observe(seconds, request, method=labels[0], route=labels[1])

    def _observe(self, seconds: dict[str, float], request: Request | None, **labels: str) -> None:
        attributes = {_ATTRIBUTES[label]: text for label, text in labels.items()}
        noted: RequestSpan | None = None if request is None else request.span
        self._after_fold(self._record, (seconds, attributes, None if noted is None else noted.span))

    def _record(self, observed: tuple[dict[str, float], dict[str, str], Span | None]) -> None:
        seconds, attributes, span = observed
        # Without a context of its own a measurement takes the current one, which is that of whoever folds.
        context = Context() if span is None else set_span_in_context(span, Context())
        for name, value in seconds.items():
            self._histograms[name].record(value, attributes, context)


@guarded("opentelemetry.observe")
def _observations(series: Callable[[str], Series], metric: catalog.Metric) -> list[Observation]:
    return list(_finite(series(metric.name), metric.labels))


def _finite(series: Series, names: tuple[str, ...]) -> Iterator[Observation]:
    """An unlimited pool has no limit to report: the conventions' numbers of connections are finite."""
    for labels, value in series.items():
        if math.isfinite(value):
            attributes = {
                _ATTRIBUTES.get(name, f"dbwatch.{name}"): text for name, text in zip(names, labels, strict=True)
            }
            yield Observation(value, attributes)


class RequestSpan:
    """The span of a request, and what has been said on it."""

    __slots__ = ("_said", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self._said: set[tuple[str, tuple[str, ...]]] = set()

    def has(self, finding: Finding) -> bool:
        """True if this finding, or one of the same lines, is an event on the span already."""
        return (finding.finding, finding.lines) in self._said

    def add(self, finding: Finding) -> None:
        """Make a finding an event on the span, unless it is one."""
        if self.has(finding):
            return
        self._said.add((finding.finding, finding.lines))
        self.span.add_event(
            "dbwatch.finding",
            {
                "dbwatch.finding": finding.finding,
                _ATTRIBUTES["pool"]: finding.pool,
                "dbwatch.message": finding.message,
                "dbwatch.lines": finding.lines,
                **{f"dbwatch.{name}": value for name, value in finding.numbers.items()},
            },
            timestamp=_nanoseconds(finding.at),
        )


class Traces:
    """What is said of a request on the span that was current when it began: the server span, if there is one.

    OpenTelemetry's instrumentation ends the server span with the last byte of the response. A finding that is proven
    after that, as in the teardown of a dependency, gets a short span of its own below it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @staticmethod
    @guarded("opentelemetry.begin")
    def begin(request: Request) -> None:
        """Note the current span with a request that begins, if it is being recorded."""
        span = trace.get_current_span()
        if span.is_recording():
            request.span = RequestSpan(span)

    @staticmethod
    def say(request: Request, totals: RequestTotals) -> None:
        """Say on the span what the request adds up to so far, in seconds, and what has been proven against it."""
        noted: RequestSpan = request.span
        values = {
            "checkouts": totals.checkouts,
            "statements": totals.statements,
            "checkout": totals.checkout_seconds,
            "wait": totals.wait_seconds,
            "hold": totals.hold_seconds,
            "executing": totals.executing_seconds,
        }
        noted.span.set_attributes({f"dbwatch.request.{name}": value for name, value in values.items()})
        for name, proof in proven(request):
            finding = Finding(
                finding=name,
                at=time.time(),
                pool=proof.pool,
                method=request.method,
                route=totals.route,
                request=request.number,
                lines=describe(proof.site),
                message=proof.detail,
                numbers=proof.numbers,
            )
            noted.add(finding)

    @guarded("opentelemetry.found")
    def found(self, finding: Finding, request: Request | None) -> None:
        """Add a finding to the span of its request. Called in the fold: after it, the span may have ended."""
        noted: RequestSpan | None = None if request is None else request.span
        if noted is None or noted.has(finding):
            return
        if noted.span.is_recording():
            noted.add(finding)
        else:  # the app's exporter may be called at the end of a span, so not under the ledger's lock
            self._ledger.after_fold(self._found_late, (finding, noted.span))

    @staticmethod
    def _found_late(found: tuple[Finding, Span]) -> None:
        finding, parent = found
        span = trace.get_tracer("dbwatch", __version__).start_span(
            f"dbwatch {finding.finding}", set_span_in_context(parent, Context()), start_time=_nanoseconds(finding.at)
        )
        RequestSpan(span).add(finding)
        span.end()

    # Exemplars.

    @guarded("opentelemetry.checkout_exemplar")
    def attempt_ended(self, checkout: Checkout) -> None:
        """A checkout was served or gave up."""
        trace_labels = _trace_labels(checkout.request)
        if trace_labels is not None and checkout.outcome is not None and checkout.taken_at is not None:
            series = self._ledger.pool_series(checkout.pool.name).checkout[checkout.outcome]
            series.exemplify(checkout.taken_at - checkout.asked_at, trace_labels)

    @guarded("opentelemetry.hold_exemplar")
    def hold_ended(self, checkout: Checkout) -> None:
        """A connection was given back, thrown away, detached or reclaimed."""
        trace_labels = _trace_labels(checkout.request)
        if trace_labels is not None and checkout.returned_at is not None:
            series = self._ledger.pool_series(checkout.pool.name).hold
            series.exemplify(checkout.hold_seconds(checkout.returned_at), trace_labels)

    def request_ended(self, request: Request, labels: tuple[str, str]) -> None:
        """A request ended: no exemplars by route, of which there are too many series."""


def _trace_labels(request: Request | None) -> dict[str, str] | None:
    """Trace and span of a request as the labels of an exemplar, None if it is in no trace that will be exported."""
    if request is None or request.span is None:
        return None
    context = request.span.span.get_span_context()
    if not context.trace_flags.sampled:
        return None
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
