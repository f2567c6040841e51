"""The programs of Prometheus; what is missing fails the run on CI and skips elsewhere."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers.program import MissingProgramError, find_program


def prometheus_program(name: str) -> Path:
    """The path of ``promtool``, ``amtool``, ``prometheus-alertmanager`` ..."""
    try:
        return find_program(name, "run `.ci/get-prometheus` (Debian)")
    except MissingProgramError as error:
        cannot_run(str(error))


def cannot_run(reason: str) -> NoReturn:
    """Fail on CI, skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
