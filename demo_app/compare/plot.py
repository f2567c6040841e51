"""Pictures of a scenario: latency of every request, and the use of the pool, over time."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo_app.compare.measured import Measured, Row
from demo_app.processes import DemoError

_FAILED, _GOOD = "#c62828", "#1565c0"


def check_plot() -> None:
    """Raise DemoError if pictures cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise DemoError("--plot needs the package matplotlib; run `pip install matplotlib`.")


def save(row: Row, directory: Path) -> Path:
    """Draw all variants of a scenario beside each other and return the file."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # takes a second, and only --plot needs it

    columns = len(row.measured)
    figure = Figure(figsize=(5 * columns, 6), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False, sharey="row")
    for column, measured in enumerate(row.measured):
        _latency(axes[0][column], measured)
        _pool(axes[1][column], measured)
    axes[0][0].set_ylabel("request, ms (log)")
    axes[1][0].set_ylabel("connections")
    figure.suptitle(row.scenario.mistake)
    path = directory / f"{row.scenario.name}.png"
    figure.savefig(path, dpi=110)
    return path


def _latency(axis: Any, measured: Measured) -> None:
    """Rounds one after the other, each request at its end."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: PLC0415  # as above

    start = 0.0
    for round_ in measured.rounds:
        for failed, colour in ((False, _GOOD), (True, _FAILED)):
            chosen = [answer for answer in round_.answers.endpoint if answer.failed is failed]
            axis.scatter(
                [start + answer.at for answer in chosen],
                [max(answer.seconds * 1000, 0.1) for answer in chosen],
                s=3,
                color=colour,
            )
        start += max([round_.seconds, *(answer.at for answer in round_.answers.endpoint)])
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # and not powers of ten
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_title(f"{measured.variant.name}: {measured.variant.label}", fontsize=10)
    axis.set_xlabel("seconds of load (red: failed)")


def _pool(axis: Any, measured: Measured) -> None:
    history = measured.reported.history
    seconds: Sequence[float] = [at - history.at[0] for at in history.at]
    axis.step(seconds, history.used, where="post", color=_GOOD, label="used")
    axis.step(seconds, history.waiters, where="post", color=_FAILED, label="waiters")
    axis.set_xlabel("seconds since the app started")
    axis.legend(fontsize=8)
