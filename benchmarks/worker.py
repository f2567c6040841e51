"""One process that runs one variant of one workload, a batch at a time, and says what each batch cost.

``python -m benchmarks.worker VARIANT WORKLOAD URL CORE``: reads the size of a batch, answers with a line of JSON, and
so on.
"""

import asyncio
import json
import os
import sys
from itertools import cycle

from benchmarks.driving import batch
from benchmarks.variants import UnavailableError, Variant, load
from benchmarks.workloads import WORKLOADS, Workload, build

#: Requests before the first measured one: caches fill, the adaptive interpreter specialises, pools open connections.
WARM_UP = 400
_CHECKED = 50


async def main(variant_name: str, workload: Workload, url: str) -> None:
    """Serve batches until the input ends."""
    try:
        variant = load(variant_name)
        bench = build(workload, url)
        variant.instrument(bench.app, bench.engine)
    except UnavailableError as error:
        _answer({"unavailable": str(error)})
        return
    paths = cycle(workload.paths)
    await batch(bench.app, paths, max(WARM_UP, len(workload.paths)), workload.at_once)
    before = variant.seen()
    await batch(bench.app, paths, _CHECKED, workload.at_once)
    _check(variant, workload, before)
    _answer({"title": variant.TITLE})
    # Reading blocks the loop, which has nothing to do between two batches.
    for line in sys.stdin:
        _answer({"seconds": await batch(bench.app, paths, int(line), workload.at_once)})
    await bench.close()


def _check(variant: Variant, workload: Workload, before: float | None) -> None:
    """A variant that records nothing would look cheap."""
    after = variant.seen()
    if before is None or after is None or not workload.checkouts:
        return
    if after - before < _CHECKED:
        raise RuntimeError(f"{variant.TITLE} recorded {after - before} of {_CHECKED} requests")


def _answer(message: dict[str, float | str]) -> None:
    print(json.dumps(message), flush=True)


def _stay_on(core: int) -> None:
    """Keep to one core: threads that hand over to each other across cores cost a varying amount."""
    if sys.platform == "linux":
        available = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {available[core % len(available)]})


if __name__ == "__main__":
    _stay_on(int(sys.argv[4]))
    asyncio.run(main(sys.argv[1], WORKLOADS[sys.argv[2]], sys.argv[3]))
