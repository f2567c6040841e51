"""OpenTelemetry, where the app uses it: the output is joined to ledger and findings once a provider is configured."""

import sys
from typing import TYPE_CHECKING

from dbwatch.findings import FOUND
from dbwatch.guard import guarded
from dbwatch.ledger import LEDGER
from dbwatch.outputs.series import Source

if TYPE_CHECKING:
    from dbwatch.outputs.opentelemetry import Metrics, Traces


class Telemetry:
    """What of OpenTelemetry is joined in this process."""

    def __init__(self) -> None:
        self.metrics: Metrics | None = None
        #: Looked at once in each request; None costs next to nothing.
        self.traces: Traces | None = None

    @guarded("telemetry.join")
    def join(self, source: Source) -> None:
        """Use the providers that are configured by now. Does nothing for what is joined already.

        A provider can be configured only where the API has been imported, so an app without it pays for no import.
        """
        if "opentelemetry.trace" not in sys.modules and "opentelemetry.metrics" not in sys.modules:
            return
        from dbwatch.outputs import opentelemetry  # noqa: PLC0415  the API is an extra

        provider = opentelemetry.meter_provider()
        if self.metrics is None and provider is not None:
            self.metrics = opentelemetry.Metrics(provider, source, LEDGER.after_fold)
            LEDGER.observers += (self.metrics,)
        if self.traces is None and opentelemetry.traces_are_recorded():
            self.traces = opentelemetry.Traces(LEDGER)
            LEDGER.observers += (self.traces,)
            FOUND.witnesses += (self.traces.found,)


TELEMETRY = Telemetry()
