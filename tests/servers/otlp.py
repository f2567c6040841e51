"""An OTLP receiver: what an OpenTelemetry collector would get by HTTP, kept in memory."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class OTLPReceiver(ThreadingHTTPServer):
    """Listens on a free loopback port; takes metrics and traces as protobuf."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.exports: list[ExportMetricsServiceRequest] = []
        self.traces: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        """The endpoint, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` wants it."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def metrics(self, scope: str = "dbwatch") -> dict[str, Metric]:
        """The last state of each metric of one library, by name."""
        return {
            metric.name: metric
            for export in list(self.exports)
            for resource in export.resource_metrics
            for library in resource.scope_metrics
            if library.scope.name == scope
            for metric in library.metrics
        }

    def spans(self) -> list[Span]:
        """Every span received."""
        return [
            span
            for export in list(self.traces)
            for resource in export.resource_spans
            for library in resource.scope_spans
            for span in library.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: OTLPReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: Any
        if self.path == "/v1/metrics":
            self.server.exports.append(ExportMetricsServiceRequest.FromString(body))
            answer = ExportMetricsServiceResponse()
        else:
            assert self.path == "/v1/traces"
            self.server.traces.append(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse()
        sent = answer.SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        """Requests are not worth a line."""


@contextmanager
def otlp_receiver() -> Iterator[OTLPReceiver]:
    """A receiver for the length of a block."""
    with OTLPReceiver() as receiver:
        thread = Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()
