"""The app in a process of its own, as the demo and the comparison start it."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from demo_app.processes import Program
from demo_app.scenarios.scenario import Scenario, Variant


def start_app(
    running: ExitStack,
    environment: Mapping[str, str],
    *,
    port: int,
    host: str = "127.0.0.1",
    workers: int = 1,
    otel: bool = False,
    log: Path | None = None,
) -> Program:
    """Start the app with this environment until the end of ``running``; with ``otel``, OpenTelemetry beside dbwatch."""
    # What the live page's workers tell each other goes with the app.
    state = running.enter_context(TemporaryDirectory(prefix="dbwatch-state-"))
    environment = {**environment, "DBWATCH_STATE_DIR": state}
    if workers > 1:  # Each worker writes its metrics into files here, and each answers for all.
        environment["PROMETHEUS_MULTIPROC_DIR"] = running.enter_context(TemporaryDirectory(prefix="dbwatch-metrics-"))
    factory = "demo_app.telemetry:create_app" if otel else "demo_app.app:create_app"
    arguments = ["--factory", factory, "--host", host, "--port", str(port)]
    arguments += ["--workers", str(workers), "--no-access-log", "--log-level", "warning"]
    arguments += ["--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "5"]
    return running.enter_context(Program("uvicorn", arguments, environment, log=log))


def scenario_environment(scenario: Scenario, variant: Variant) -> dict[str, str]:
    """What makes the app serve this variant."""
    return {**variant.settings, "DEMO_SCENARIO": scenario.name, "DEMO_VARIANT": variant.name}
