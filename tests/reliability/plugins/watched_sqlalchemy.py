"""dbwatch installed for the whole run; at the end it says what it has seen."""

import json
import os
from pathlib import Path

import pytest

import dbwatch
from dbwatch.ledger import LEDGER


def pytest_sessionstart() -> None:
    dbwatch.install()


def pytest_sessionfinish(session: pytest.Session) -> None:
    dbwatch.flush()
    seen = LEDGER.accumulators.histograms["dbwatch_checkout_seconds"].values()
    errors = LEDGER.accumulators.counters["dbwatch_internal_errors_total"].values()
    said = {"seen": sum(sum(each.counts) for each in seen), "errors": sum(each.value for each in errors)}
    Path(os.environ["DBWATCH_SAID"]).write_text(json.dumps(said))
