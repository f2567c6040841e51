"""What the pytest plugin costs a suite: that of the demo shop, with the plugin shut out, off, and on, in turn."""

import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

#: Whole runs of pytest: the shop's endpoints, sync and async, on PostgreSQL and SQLite.
_SUITE = "tests/demo/test_shop.py"
#: Options of pytest by what they do with the plugin. ``pytest_dbwatch`` is the module that pytest loads by itself.
_VARIANTS = {"shut out": ("-p", "no:dbwatch"), "off": (), "on": ("--dbwatch",)}


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of each run of the suite, in the order of the rounds, and their ratios to the run of the same round
    with the plugin shut out.
    """

    variant: str
    seconds: list[float]
    ratios: list[float]


class SuiteFailedError(Exception):
    """A run of the suite failed, so that its time says nothing."""


def measure(rounds: int, done: Callable[[str, float], None]) -> list[Cost]:
    """Run the suite ``rounds`` times in each variant; ``done`` hears of every run.

    Raises:
        SuiteFailedError: a test failed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    order = list(_VARIANTS)
    for _ in range(rounds):
        for name in order:
            seconds[name].append(_cpu_seconds(*_VARIANTS[name]))
            done(name, seconds[name][-1])
        order.append(order.pop(0))  # whatever comes first in a round does so in another round as well
    without = seconds["shut out"]
    return [
        Cost(name, taken, [one / other for one, other in zip(taken, without, strict=True)])
        for name, taken in seconds.items()
    ]


def _cpu_seconds(*options: str) -> float:
    before = _spent()
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, _SUITE],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SuiteFailedError(ended.stdout[-2000:] + ended.stderr[-2000:])
    return _spent() - before


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
