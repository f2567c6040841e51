"""One process that serves a number of requests and ends, for counting instructions.

``python -m benchmarks.counted VARIANT WORKLOAD URL REQUESTS``
"""

import asyncio
import gc
import sys

from benchmarks.driving import request
from benchmarks.variants import UNAVAILABLE, UnavailableError, load
from benchmarks.workloads import WORKLOADS, Workload, build

#: Requests after which everything that lasts has been made.
_SETTLED = 100


async def main(variant: str, workload: Workload, url: str, requests: int) -> None:
    """Serve the requests, each in a task of its own."""
    bench = build(workload, url)
    load(variant).instrument(bench.app, bench.engine)
    loop = asyncio.get_running_loop()
    for number in range(requests):
        if number == _SETTLED:
            # Full collections fall where they like and look at every object there is: leave the old ones out.
            gc.collect()
            gc.freeze()
        await loop.create_task(request(bench.app, workload.path))
    await bench.close()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], WORKLOADS[sys.argv[2]], sys.argv[3], int(sys.argv[4])))
    except UnavailableError as error:
        print(error)
        sys.exit(UNAVAILABLE)
