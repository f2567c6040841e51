import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import StartPrometheus
from tests.servers.asgi import UvicornProcess
from tests.servers.waiting import eventually

RULES = """
groups:
  - name: fruit
    rules:
      - {record: pears, expr: apples * 2}
      - {alert: TooManyApples, expr: apples > 2, labels: {severity: ticket}}
"""


def test_an_app_is_scraped_and_its_samples_can_be_queried(
    uvicorn_process: Callable[..., UvicornProcess], prometheus: StartPrometheus, tmp_path: Path
) -> None:
    app = uvicorn_process("tests.servers.apps:hello")
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    start = time.time()
    server = prometheus(app.address, rules=[rules])

    [apples] = server.query("apples")
    assert apples.value == 3.0
    assert apples.labels == {"__name__": "apples", "instance": app.address, "job": app.address}
    assert server.value("scalar(apples) + 1") == 4.0
    assert math.isnan(server.value("oranges"))
    with pytest.raises(ValueError, match="has 2 series"):
        server.value('{__name__=~"apples|up"}')
    with pytest.raises(ValueError, match="parse error"):
        server.query("apples +")

    assert server.wait_for("pears") == 6.0
    assert [alert["labels"]["alertname"] for alert in server.alerts()] == ["TooManyApples"]
    [history] = eventually(lambda: server.query_range("apples", start, time.time(), step=0.1))
    assert {value for _, value in history.points} == {3.0}
    with pytest.raises(TimeoutError, match=r"pears is 6.0 after 0.3 s"):
        server.wait_for("pears", lambda pears: pears > 6, timeout=0.3)


def test_a_target_that_goes_away_shows_as_down(
    uvicorn_process: Callable[..., UvicornProcess], prometheus: StartPrometheus
) -> None:
    app, other = uvicorn_process("tests.servers.apps:hello"), uvicorn_process("tests.servers.apps:hello")
    server = prometheus(app.address, other.address)
    assert server.value("sum(up)") == 2.0
    app.stop()
    assert server.wait_for(f'up{{job="{app.address}"}}', lambda up: up == 0) == 0.0
