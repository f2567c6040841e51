"""Where the figures come from: processor, Python and the versions of what was measured."""

import os
import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "sqlalchemy",
    "fastapi",
    "starlette",
    "aiosqlite",
    "psycopg",
    "asyncpg",
    "prometheus-client",
    "prometheus-fastapi-instrumentator",
    "starlette-exporter",
    "fastapi-sqlalchemy-monitor",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-fastapi",
    "opentelemetry-instrumentation-sqlalchemy",
)


def describe() -> dict[str, str]:
    """Processor, operating system, Python and package versions."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **_versions(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
