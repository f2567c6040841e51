"""One process that serves a number of requests and ends, for counting instructions.

``python -m benchmarks.counted VARIANT WORKLOAD URL REQUESTS``
"""

import asyncio
import sys

from benchmarks.driving import request
from benchmarks.variants import UnavailableError, load
from benchmarks.workloads import WORKLOADS, Workload, build

#: The exit code for a variant that cannot run here; the reason is printed.
UNAVAILABLE = 3


async def main(variant: str, workload: Workload, url: str, requests: int) -> None:
    """Serve the requests, each in a task of its own."""
    bench = build(workload, url)
    load(variant).instrument(bench.app, bench.engine)
    loop = asyncio.get_running_loop()
    for _ in range(requests):
        await loop.create_task(request(bench.app, workload.path))
    await bench.close()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], WORKLOADS[sys.argv[2]], sys.argv[3], int(sys.argv[4])))
    except UnavailableError as error:
        print(error)
        sys.exit(UNAVAILABLE)
