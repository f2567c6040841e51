"""Instructions per request, counted by valgrind: the same on a busy machine as on a quiet one.

Not a measure of time (a cache miss is no instruction), but the one to see small changes by, and to hold a budget to.
"""

import os
import re
import shutil
import subprocess
import sys

from benchmarks.variants import UNAVAILABLE, UnavailableError
from benchmarks.workloads import Workload

#: Requests of the shorter run; what is before the difference is start-up and warm-up.
_FEW = 200


class ValgrindMissingError(Exception):
    """valgrind is not installed."""


def per_request(variant: str, workload: Workload, url: str, requests: int) -> float:
    """Instructions of one request: the difference between a longer and a shorter run.

    Raises:
        ValgrindMissingError: there is no valgrind.
        UnavailableError: the variant cannot run here.
    """
    few, many = (_count(variant, workload, url, number) for number in (_FEW, _FEW + requests))
    return (many - few) / requests


def _count(variant: str, workload: Workload, url: str, requests: int) -> int:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise ValgrindMissingError("valgrind is not installed")
    ended = subprocess.run(
        [
            *(valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
            *(sys.executable, "-m", "benchmarks.counted", variant, workload.name, url, str(requests)),
        ],
        # Sets and dicts of strings are laid out alike in every run.
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == UNAVAILABLE:
        raise UnavailableError(ended.stdout.strip())
    counted = re.search(r"I\s+refs:\s+([\d,]+)", ended.stderr)
    if ended.returncode or counted is None:
        raise RuntimeError(ended.stderr[-2000:])
    return int(counted[1].replace(",", ""))
