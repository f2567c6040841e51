"""The Prometheus output: a collector for one process, per-process files for several, and the page both are read from.

This is the only module that imports prometheus_client. It is touched by a scrape and by the flusher, never by a
request: the client's plain locks are not safe in code that a garbage collection can interrupt.
"""

import atexit
import glob
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client import multiprocess as client_multiprocess
from prometheus_client import values as client_values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.samples import Exemplar as ClientExemplar

from dbwatch import catalog
from dbwatch.accumulators import Histogram
from dbwatch.guard import guarded
from dbwatch.outputs.processes import is_alive
from dbwatch.outputs.series import Series, Source
from dbwatch.settings import ConfigurationError

#: Seconds between two writes of the flusher: how far behind another worker's numbers may be.
FLUSH_INTERVAL = 1.0
#: Seconds that a fork waits at most for a write under way, which takes milliseconds.
FORK_PATIENCE = 5.0
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
#: How the client calls the ways to put the gauges of living processes together.
_MODES = {"sum": "livesum", "max": "livemax"}


class Collector:
    """A custom collector over the accumulators, for the registry of a single process."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def describe(self) -> Iterator[Metric]:
        """Every family without samples, so that a registry refuses a second owner of a name."""
        return (_family(metric) for metric in catalog.METRICS.values())

    def collect(self) -> Iterator[Metric]:
        """Every family with its samples now."""
        families = self._families()
        return iter(families if families is not None else ())

    @guarded("prometheus.collect")
    def _families(self) -> list[Metric]:
        accumulators = self._source.accumulators()
        gauges = self._source.gauges()
        families = []
        for metric in catalog.METRICS.values():
            family = _family(metric)
            if isinstance(family, HistogramMetricFamily):
                for labels, histogram in list(accumulators.histograms[metric.name].items()):
                    family.add_metric(labels, _cumulative(histogram), histogram.sum)
            elif isinstance(family, CounterMetricFamily):
                for labels, cell in list(accumulators.counters[metric.name].items()):
                    family.add_metric(labels, cell.value)
            elif isinstance(family, GaugeMetricFamily):
                for labels, value in gauges.get(metric.name, {}).items():
                    family.add_metric(labels, value)
            families.append(family)
        return families


def _family(metric: catalog.Metric) -> Metric:
    kind = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}[metric.kind]
    family: Metric = kind(metric.name, metric.help, labels=metric.labels)
    return family


def _buckets(histogram: Histogram) -> Iterator[tuple[str, int]]:
    """Upper bounds as the client writes them, and the observations of each bucket alone."""
    bounds = (*map(str, histogram.bounds), "+Inf")
    return zip(bounds, list(histogram.counts), strict=True)


def _cumulative(histogram: Histogram) -> list[tuple[str, float] | tuple[str, float, ClientExemplar]]:
    total = 0.0
    buckets: list[tuple[str, float] | tuple[str, float, ClientExemplar]] = []
    for index, (bound, count) in enumerate(_buckets(histogram)):
        total += count
        exemplar = None if histogram.exemplars is None else histogram.exemplars[index]
        # Shown in the OpenMetrics format only, and not with several workers: the client's files have no room for them.
        buckets.append((bound, total) if exemplar is None else (bound, total, ClientExemplar(*exemplar)))
    return buckets


class MultiprocessWriter:
    """Writes the accumulators into the client's per-process files, so that every multiprocess endpoint shows them.

    Custom collectors are invisible there, and ``set_function`` gauges read 0. A daemon thread writes every second, a
    scrape of this process at once, and the end of the process once more. Counters go on from what the file of this
    process id already holds.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._stopped_for_fork = False
        self._values: dict[tuple[str, ...], tuple[Any, float]] = {}
        self._gauges_written: dict[tuple[str, ...], Any] = {}
        self._has_written = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the flusher of this process, once."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dbwatch-flusher", daemon=True)
                self._thread.start()
                atexit.register(self.write)

    def before_fork(self) -> None:
        """Let no write be under way. The client has one plain lock for all values of the process: copied while the
        flusher holds it, it would stay locked in the child, and the app's own metrics would block there for ever.
        """
        self._stopped_for_fork = self._lock.acquire(timeout=FORK_PATIENCE)

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._stopped_for_fork:
            self._stopped_for_fork = False
            self._lock.release()

    def start_anew(self) -> None:
        """In a forked child: the thread is gone, the files are the parent's, the lock may be held for ever."""
        self._lock = threading.Lock()
        self._stopped_for_fork = False
        self._values = {}
        self._gauges_written = {}
        self._has_written = False
        self._thread = None

    def _run(self) -> None:
        waiting = threading.Event()
        while True:
            self.write()
            remove_dead_gauges()
            waiting.wait(FLUSH_INTERVAL)

    @guarded("prometheus.write")
    def write(self) -> None:
        """Write every series as it is now."""
        # Outside the lock: the fold calls listeners and log handlers of the app, which may take long, or a connection.
        accumulators = self._source.accumulators()
        with self._lock:
            if not self._has_written:
                self._has_written = True
                _clear_gauges_of_a_namesake()
            gauges = self._source.gauges()
            for metric in catalog.METRICS.values():
                if metric.kind == "counter":
                    for labels, cell in list(accumulators.counters[metric.name].items()):
                        self._add(metric, metric.name, labels, cell.value)
                elif metric.kind == "histogram":
                    for labels, histogram in list(accumulators.histograms[metric.name].items()):
                        self._add_histogram(metric, labels, histogram)
                else:
                    self._set_gauge(metric, gauges.get(metric.name, {}))

    def _add(
        self, metric: catalog.Metric, name: str, labels: tuple[str, ...], value: float, bound: str | None = None
    ) -> None:
        key = (name, *labels) if bound is None else (name, *labels, bound)
        known = self._values.get(key)
        if known is None:
            names = metric.labels if bound is None else (*metric.labels, "le")
            values = labels if bound is None else (*labels, bound)
            family = metric.name.removesuffix("_total")  # as the client itself names the family of a counter
            stored = client_values.ValueClass(metric.kind, family, name, names, values, metric.help)
            known = self._values[key] = (stored, stored.get())
        stored, base = known
        stored.set(base + value)

    def _add_histogram(self, metric: catalog.Metric, labels: tuple[str, ...], histogram: Histogram) -> None:
        for bound, count in _buckets(histogram):
            self._add(metric, f"{metric.name}_bucket", labels, count, bound)
        self._add(metric, f"{metric.name}_sum", labels, histogram.sum)

    def _set_gauge(self, metric: catalog.Metric, series: Series) -> None:
        mode = _MODES[metric.aggregation]
        gone = {key for key in self._gauges_written if key[0] == metric.name}
        for labels, value in series.items():
            key = (metric.name, *labels)
            gone.discard(key)
            stored = self._gauges_written.get(key)
            if stored is None:
                stored = self._gauges_written[key] = client_values.ValueClass(
                    "gauge", metric.name, metric.name, metric.labels, labels, metric.help, multiprocess_mode=mode
                )
            stored.set(value)
        for key in gone:
            self._gauges_written[key].set(0)


@guarded("prometheus.clear_gauges")
def _clear_gauges_of_a_namesake() -> None:
    """Set our live gauges to 0 that a file of this process id holds before this process has written any.

    They are those of a process that was killed and had the same id, as happens where a container is restarted and keeps
    its directory. What it showed of connections and routes that this process does not have would never be written
    again. The file stays: the app may have gauges of its own there, and have it open.
    """
    for mode in _MODES.values():
        path = os.path.join(os.environ[_DIRECTORY], f"gauge_{mode}_{os.getpid()}.db")
        if not _has_content(path):
            continue
        for key, *_ in list(MmapedDict.read_all_values_from_file(path)):  # type: ignore[no-untyped-call]
            name, _, labels, text = json.loads(key)
            if name in catalog.METRICS:
                names, values = tuple(labels), tuple(labels.values())
                client_values.ValueClass("gauge", name, name, names, values, text, multiprocess_mode=mode).set(0)


@guarded("prometheus.remove_dead_gauges")
def remove_dead_gauges() -> None:
    """Remove the live gauges of processes that are gone; their counters stay."""
    directory = os.environ[_DIRECTORY]
    for path in glob.glob(os.path.join(glob.escape(directory), "gauge_live*_*.db")):
        number = os.path.basename(path).removesuffix(".db").rpartition("_")[2]
        if number.isdigit() and not is_alive(int(number)):
            with suppress(FileNotFoundError):  # every worker does this; another one was faster
                client_multiprocess.mark_process_dead(int(number), directory)  # type: ignore[no-untyped-call]


def multiprocess_configured() -> bool:
    """True if several processes share their metrics through ``PROMETHEUS_MULTIPROC_DIR``.

    Raises:
        ConfigurationError: the directory is missing or not writable, or the variable was set too late: after
            prometheus_client was imported it silently yields no metrics at all.
    """
    directory = os.environ.get(_DIRECTORY)
    in_client = bool(getattr(client_values.ValueClass, "_multiprocess", False))
    if directory is None:
        return False
    if not in_client:
        raise ConfigurationError(
            f"dbwatch: {_DIRECTORY} is {directory!r}, but it was set after prometheus_client had been imported, "
            "which then writes nothing there. Set it in the environment of the process, before Python starts."
        )
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK):
        raise ConfigurationError(
            f"dbwatch: {_DIRECTORY} is {directory!r}, which is no directory this process can write to. Create it "
            "empty before the workers start, and let it be writable for their user."
        )
    return True


class _ProcessFiles:
    """The per-process files of all processes as a registry. The client's own registry yields nothing for ``name[]``
    there, because it does not know beforehand which names the files hold.
    """

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self._names = names

    def collect(self) -> Iterator[Metric]:
        files = filter(_has_content, glob.glob(os.path.join(glob.escape(os.environ[_DIRECTORY]), "*.db")))
        for metric in client_multiprocess.MultiProcessCollector.merge(files):  # type: ignore[no-untyped-call]
            if self._names:
                metric.samples = [sample for sample in metric.samples if sample.name in self._names]
            if metric.samples:
                yield metric

    def restricted_registry(self, names: Iterable[str]) -> "_ProcessFiles":
        return _ProcessFiles(frozenset(names))


def _has_content(path: str) -> bool:
    """False for a file that is gone, or that a process has only just created: the client gives it its size a moment
    later, and cannot read it before (0.26).
    """
    try:
        return os.path.getsize(path) > 0
    except FileNotFoundError:
        return False


class Exposition:
    """The metrics page of one registry."""

    def __init__(self, registry: CollectorRegistry | None, source: Source) -> None:
        self._writer: MultiprocessWriter | None = None
        if multiprocess_configured():
            self._writer = _writer_for(source)
            self._registry: Any = _ProcessFiles()
        else:
            self._registry = registry if registry is not None else prometheus_client.REGISTRY
            _register(self._registry, source)
        self._page = prometheus_client.make_wsgi_app(self._registry)

    @property
    def writes_files(self) -> bool:
        """True where several processes share their metrics through files, so that :meth:`start` has work to do."""
        return self._writer is not None

    def start(self) -> None:
        """Start writing for the other processes, where there are several."""
        if self._writer is not None:
            self._writer.start()

    def flush(self) -> None:
        """Write for the other processes now, where there are several: this one has just started, or is about to end."""
        if self._writer is not None:
            self._writer.write()

    def serve(self, port: int, address: str) -> int:
        """Serve the page on a port of its own, from a daemon thread. Returns the port, which is found for port 0.

        Raises:
            OSError: nothing can listen there.
        """
        server, _thread = prometheus_client.start_http_server(port, address, self._registry)
        return int(server.server_port)

    def render(self, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of the page for a WSGI environment. Call it off the event loop: it may take long.

        The client's own application negotiates text, OpenMetrics and gzip, and understands ``name[]``.
        """
        if self._writer is not None:
            self._writer.write()
            remove_dead_gauges()
        answer: list[tuple[int, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            answer.append((int(status.split(maxsplit=1)[0]), headers))

        body = b"".join(self._page(environ, start_response))
        status, headers = answer[0]
        return status, headers, body


def samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each sample of a metrics page.

    Raises:
        ValueError: the text is no metrics page.
    """
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - an app never reads a page

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def private_registry() -> CollectorRegistry:
    """A registry that nobody else sees: for watching without adding to the app's metrics."""
    return CollectorRegistry()


_collectors: "WeakKeyDictionary[CollectorRegistry, Collector]" = WeakKeyDictionary()
_writers: list[MultiprocessWriter] = []


def _register(registry: CollectorRegistry, source: Source) -> None:
    if registry in _collectors:
        return
    collector = Collector(source)
    try:
        registry.register(collector)
    except ValueError as error:
        raise ConfigurationError(
            f"dbwatch: the Prometheus registry {registry!r} already has metrics of our names ({error}). Give dbwatch "
            "a registry of its own with registry=CollectorRegistry(), or remove the others."
        ) from None
    _collectors[registry] = collector


def _writer_for(source: Source) -> MultiprocessWriter:
    if not _writers:
        writer = MultiprocessWriter(source)
        _writers.append(writer)
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(before=writer.before_fork, after_in_parent=writer.after_fork)
    return _writers[0]


def write_for_others() -> None:
    """Write now what the flusher would write within the next second, where several processes share their metrics."""
    for writer in _writers:
        writer.write()


def start_anew() -> None:
    """In a forked child."""
    for writer in _writers:
        writer.start_anew()
