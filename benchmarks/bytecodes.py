"""Bytecodes a request executes: exact, and the same on every machine with the same versions.

They leave out what C code does, and one bytecode takes longer than another; but a change that makes the hot path
longer shows to the last instruction, which no clock on a shared machine can do.

``python -m benchmarks.bytecodes VARIANT WORKLOAD URL`` prints a line of JSON: per request, by function.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from benchmarks.driving import request
from benchmarks.variants import UNAVAILABLE, UnavailableError, load
from benchmarks.workloads import WORKLOADS, Workload, build

# Not asked of dbwatch, whose import brings prometheus_client before the multiprocess variant has set its directory.
_ROOT = Path(__file__).parent.parent
#: Counting slows everything down so much that holds would be found to be idle.
_UNHURRIED = {"DBWATCH_IDLE_HOLD_SECONDS": "3600", "DBWATCH_SLOW_CHECKOUT_SECONDS": "3600"}
_WARM_UP = 200
_COUNTED = 96  # dbwatch folds every 32 facts, three of which make a request: whole numbers of folds


class Count:
    """Counts bytecodes and calls by code object, in the thread that starts it."""

    def __init__(self) -> None:
        self.bytecodes: Counter[CodeType] = Counter()
        self.calls: Counter[CodeType] = Counter()

    def called(self, frame: FrameType, _event: str, _argument: object) -> Any:
        """The global trace function."""
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        self.calls[frame.f_code] += 1
        return self._executed

    def _executed(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "opcode":
            self.bytecodes[frame.f_code] += 1
        return self._executed


def per_request(variant: str, workload: Workload, url: str) -> list[tuple[str, float, float]]:
    """Function, bytecodes and calls, most bytecodes first; counted in a process of its own.

    Raises:
        UnavailableError: the variant cannot run here.
    """
    command = [sys.executable, "-m", "benchmarks.bytecodes", variant, workload.name, url]
    ended = subprocess.run(command, env={**os.environ, **_UNHURRIED}, capture_output=True, text=True, check=False)
    if ended.returncode == UNAVAILABLE:
        raise UnavailableError(ended.stdout.strip())
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    return [(name, bytecodes, calls) for name, bytecodes, calls in json.loads(ended.stdout)]


async def main(variant: str, workload: Workload, url: str) -> None:
    """Warm up, then count."""
    bench = build(workload, url)
    load(variant).instrument(bench.app, bench.engine)
    loop = asyncio.get_running_loop()
    for _ in range(_WARM_UP):
        await loop.create_task(request(bench.app, workload.path))
    gc.disable()  # finalizers would run when they like
    count = Count()
    sys.settrace(count.called)
    for _ in range(_COUNTED):
        await loop.create_task(request(bench.app, workload.path))
    sys.settrace(None)
    await bench.close()
    functions = [
        (f"{_short(code)}:{code.co_firstlineno} {code.co_qualname}", number / _COUNTED, count.calls[code] / _COUNTED)
        for code, number in count.bytecodes.most_common()
    ]
    print(json.dumps(functions))


def _short(code: CodeType) -> str:
    """The file from its top package on."""
    path = Path(code.co_filename)
    return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else path.name


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], WORKLOADS[sys.argv[2]], sys.argv[3]))
    except UnavailableError as error:
        print(error)
        sys.exit(UNAVAILABLE)
