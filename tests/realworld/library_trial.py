"""Apps built on well-known libraries, with the one line and without: ``python -m tests.realworld.library_trial``.

Each app (``tests/realworld/libraries``, the extra ``libraries``) runs in a process of its own under uvicorn, on a real
PostgreSQL, once as it is and once with DBWatchMiddleware, and gets the same visitors. The answers must be the same, no
connection may be left, and what is found must be true: nothing in most of them. The table is written to
docs/reliability.md.
"""

import gc
import importlib
import json
import pkgutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import httpx

import dbwatch
from demo_app.postgres import EmbeddedPostgres
from tests.realworld import libraries
from tests.realworld.libraries import shop
from tests.reliability import report
from tests.servers.asgi import serve

_DRIVERS = ("asyncpg", "psycopg")
#: Visitors by their numbers, and how many of them come at once.
_VISITORS = ((range(3), 1), (range(3, 11), 4))


def main() -> None:
    """Try every app, or be the process in which one runs. Exits with what was wrong."""
    if len(sys.argv) > 1:
        _in_own_process(*sys.argv[1:])
        return
    names = sorted(module.name for module in pkgutil.iter_modules(libraries.__path__) if module.name != "shop")
    rows, wrong = [], []
    with EmbeddedPostgres() as postgres:
        for name in names:
            for driver in _DRIVERS:
                row, mistakes = _try_out(name, driver, postgres)
                rows.append(row)
                wrong += mistakes
                sys.stdout.write(f"{' | '.join(map(str, row))} {mistakes or ''}\n")
                sys.stdout.flush()
    heading = ("app", "library", "driver", "requests", "answers that differ", "found", "false or missed")
    report.write("libraries", report.table(heading, rows))
    if wrong:
        sys.exit("\n".join(wrong))


def _try_out(name: str, driver: str, postgres: EmbeddedPostgres) -> tuple[tuple[object, ...], list[str]]:
    bare, watched = (_run(name, driver, how, postgres) for how in ("bare", "watched"))
    app = importlib.import_module(f"{libraries.__name__}.{name}")
    found, true = Counter[str](watched["found"]), app.TRUE
    false = {*found} - {*true}
    missed = {finding for finding, when in true.items() if when == "always" and finding not in found}
    differ = (Counter(bare["answers"]) - Counter(watched["answers"])).total()
    mistakes = [
        f"{name} on {driver}: {what}"
        for what, is_so in {
            f"{differ} answers differ: {bare['answers']} and {watched['answers']}": differ,
            f"{false} is false: {watched['told']}": false,
            f"{missed} was not found": missed,
            f"connections left: {watched['used']}": watched["used"],
            f"errors of ours: {watched['errors']}": watched["errors"],
        }.items()
        if is_so
    ]
    told = ", ".join(f"{finding} ({count})" for finding, count in sorted(found.items())) or "nothing"
    library = f"{app.LIBRARY} {version(app.LIBRARY)}"
    row = (name, library, driver, len(watched["answers"]), differ, told, len(false) + len(missed))
    return row, mistakes


def _run(name: str, driver: str, how: str, postgres: EmbeddedPostgres) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", __spec__.name, name, how]
    urls = [postgres.url("psycopg"), postgres.url(driver)]
    done = subprocess.run([*command, *urls], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"{name} on {driver}, {how}, ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _in_own_process(name: str, how: str, sync_url: str, async_url: str) -> None:
    shop.fill(sync_url)
    module = importlib.import_module(f"{libraries.__name__}.{name}")
    app = module.build(sync_url, async_url)
    if how == "watched":
        app.add_middleware(dbwatch.DBWatchMiddleware)

    def visit(who: int) -> list[str]:
        with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as client:
            return [f"{one.request.url.path} {one.status_code}" for one in module.visit(client, who)]

    with serve(app) as url:
        answers: list[str] = []
        for visitors, clients in _VISITORS:
            with ThreadPoolExecutor(clients) as threads:
                answers += [answer for each in threads.map(visit, visitors) for answer in each]
        gc.collect()
        dbwatch.settle(5.0)
        found = dbwatch.findings()
        page = httpx.get(f"{url}/metrics").text
    used = sum(pool.used for pool in dbwatch.snapshot())  # now that no job of the app's own runs any more
    told = (f"{one.finding} {one.method} {one.route} {one.lines} {one.message}" for one in found)
    result = {
        "answers": answers,
        "found": Counter(one.finding for one in found),
        "told": list(dict.fromkeys(told)),
        "used": used,
        "errors": [line for line in page.splitlines() if line.startswith("dbwatch_internal_errors_total{")],
    }
    sys.stdout.write(f"\n{json.dumps(result)}\n")


if __name__ == "__main__":
    main()
