"""A real Prometheus that scrapes an app of a test."""

import json
import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from tests.servers.ports import free_port
from tests.servers.program import ServerProcess, find_program
from tests.servers.waiting import eventually


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a query's result: its labels (``__name__`` among them) and its points (time, value)."""

    labels: dict[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """The last value."""
        return self.points[-1][1]


class Prometheus:
    """Prometheus with its data in ``directory``, scraping ``targets`` ("host:port" or "host:port/path").

    ``interval`` is that of scrapes and rules, ``rules`` are rule files. Every target is a job of its own, named by its
    address. Raises MissingProgramError if Prometheus is not installed.
    """

    def __init__(
        self, directory: Path, targets: Sequence[str], *, rules: Sequence[Path] = (), interval: str = "1s"
    ) -> None:
        program = find_program("prometheus", "run `.ci/get-prometheus` (Debian), or `apt-get install prometheus`")
        self.url = f"http://127.0.0.1:{free_port()}"
        self._targets = len(targets)
        self._client = httpx.Client(base_url=self.url, timeout=10.0, trust_env=False)
        configuration = directory / "prometheus.yml"
        # YAML is a superset of JSON.
        configuration.write_text(json.dumps(_configuration(targets, rules, interval)))
        self._process = ServerProcess(
            [
                *(program, f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}"),
                *(f"--web.listen-address={self.url.removeprefix('http://')}", "--web.enable-lifecycle"),
                *("--enable-feature=exemplar-storage", "--log.level=warn"),
            ],
            log=directory / "prometheus.log",
        )
        self._process.wait_until(self._is_ready)

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """The series of an instant query, now or at a Unix time. A scalar is one series without labels."""
        data = self._get("query", query=expression, **({} if at is None else {"time": at}))
        if data["resultType"] == "scalar":
            return [_series({"values": [data["result"]]})]
        return [_series({"metric": row["metric"], "values": [row["value"]]}) for row in data["result"]]

    def query_range(self, expression: str, start: float, end: float, step: float = 1.0) -> list[Series]:
        """The series of a range query between two Unix times."""
        data = self._get("query_range", query=expression, start=start, end=end, step=step)
        return [_series(row) for row in data["result"]]

    def value(self, expression: str) -> float:
        """The value of an expression with one series; NaN if it has none. Raises ValueError if it has several."""
        match self.query(expression):
            case []:
                return math.nan
            case [series]:
                return series.value
            case several:
                raise ValueError(f"{expression} has {len(several)} series")

    def wait_for(self, expression: str, accept: Callable[[float], bool] = bool, timeout: float = 60.0) -> float:
        """Poll until the value of an expression is accepted, and return it; no series (NaN) is never accepted."""
        value = math.nan

        def accepted() -> bool:
            nonlocal value
            value = self.value(expression)
            return not math.isnan(value) and accept(value)

        try:
            eventually(accepted, timeout, every=0.2)
        except TimeoutError:
            raise TimeoutError(f"{expression} is {value} after {timeout:g} s") from None
        return value

    def wait_for_targets(self, timeout: float = 60.0) -> None:
        """Wait until every target has been scraped, and its samples can be queried."""
        if self._targets:
            self.wait_for("sum(up)", lambda up: up == self._targets, timeout)

    def alerts(self) -> list[dict[str, Any]]:
        """The active alerts, as the API gives them."""
        alerts: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return alerts

    def exemplars(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """The exemplars of the series of an expression between two Unix times, as the API gives them."""
        exemplars: list[dict[str, Any]] = self._get("query_exemplars", query=expression, start=start, end=end)
        return exemplars

    def close(self) -> None:
        """Stop the server."""
        self._client.close()
        self._process.stop(signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def _get(self, endpoint: str, **parameters: Any) -> Any:
        answer = self._client.get(f"/api/v1/{endpoint}", params=parameters).json()
        if answer["status"] != "success":
            raise ValueError(f"{parameters}: {answer['error']}")
        return answer["data"]


def _series(row: dict[str, Any]) -> Series:
    return Series(row.get("metric", {}), tuple((float(time), float(value)) for time, value in row["values"]))


def _configuration(targets: Sequence[str], rules: Sequence[Path], interval: str) -> dict[str, Any]:
    jobs = []
    for target in targets:
        address, _, path = target.partition("/")
        job = {"job_name": address, "metrics_path": f"/{path or 'metrics'}", "static_configs": [{"targets": [address]}]}
        jobs.append(job)
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": jobs,
    }
