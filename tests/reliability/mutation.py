"""Does a test fail if the code is wrong? ``python -m tests.reliability.mutation`` writes docs/mutants.md.

Each module that keeps the books or judges is changed in one place after the other (Cosmic Ray), and those tests run
that run the changed line. A mutant that no test notices has survived; why, is kept in ``survivors.toml``. The last
commit is what is mutated, in a copy. What came of each module is kept in ``mutants.json``, so that a module can be run
by itself, and, after tests were added, its survivors; ``--page`` writes the page anew, as after a reason was added.
"""

import argparse
import hashlib
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

from tests.reliability import report

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mutants.md"
REASONS = Path(__file__).with_name("survivors.toml")
RESULTS = Path(__file__).with_name("mutants.json")
MODULES = (
    *("accumulators", "context", "facts", "findings", "holders", "idling", "judgement", "leaks", "ledger", "pools"),
    *("readiness", "records", "timeout_report", "turns"),
)
TESTS = (
    *("tests/core", "tests/bookkeeping", "tests/findings", "tests/advice", "tests/app", "tests/testing"),
    "tests/reliability/test_cancellation.py",
)
_ABOUT = """\
Each of these modules was changed in one place after the other (Cosmic Ray): a comparison, an operator, a number, a
condition turned round, a loop that does nothing. Then those tests ran that need no server and run the changed line:
first those whose file names the module, one case of each before a second, for twenty seconds at most. All of them pass
on the unchanged code. A mutant that no test noticed has survived; why, stands below.
What survived at first was run again after tests had been added. `.ci/long mutation` repeats it and takes hours."""
#: Of the replacements of an operator, one or two: the others are noticed even more easily, or not at all.
_LEFT_OUT = (
    "core/ReplaceBinaryOperator_(?!Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul).*",
    "core/ReplaceComparisonOperator_(?!Eq_NotEq|NotEq_Eq|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Is_IsNot|IsNot_Is).*",
    "core/ReplaceUnaryOperator_(?!Delete_Not|USub_UAdd).*",
    *("core/VariableReplacer", "core/VariableInserter", "core/RemoveDecorator"),
)
#: Seconds after which the tests of a mutant hang, which is as good as a failure; or what all tests that any mutant of
#: its module may run take together on the unchanged code, if that is more.
_HANGS = 60
_PLUGINS = str(Path(__file__).with_name("plugins"))


@dataclass(frozen=True)
class Mutant:
    """A change, and whether a test noticed it."""

    module: str
    line: int
    operator: str
    before: str
    after: str
    noticed: bool


def environment(copy: Path, **more: str) -> dict[str, str]:
    """The copy's packages come before those that are installed."""
    return {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{_PLUGINS}", "PYTHONDONTWRITEBYTECODE": "1", **more}


def warm(copy: Path) -> None:
    """Compile what the tests import. What is mutated is changed several times a second, so the compiled code of the
    package is tied to the contents of its files and not to their times.
    """
    env = environment(copy)
    del env["PYTHONDONTWRITEBYTECODE"]
    for command in (
        ["pytest", "-q", "--collect-only", "tests"],
        ["compileall", "-qf", "--invalidation-mode", "checked-hash", "dbwatch"],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=copy, env=env, check=True, stdout=subprocess.DEVNULL)


def observe(copy: Path, observed: Path) -> None:
    """Which tests run which lines."""
    command = [sys.executable, "-m", "coverage", "run", "--rcfile=", "--source=dbwatch"]
    command += ["--concurrency=thread,greenlet", f"--data-file={observed}.coverage"]
    pytest = ["-m", "pytest", "-q", "-p", "mutants", "-p", "no:cacheprovider", *TESTS]
    subprocess.run([*command, *pytest], cwd=copy, env=environment(copy, MUTANTS_OBSERVED=str(observed)), check=False)
    if not observed.exists():
        raise RuntimeError("the tests of the unchanged code came to no end")


def seconds_unchanged(module: str, copy: Path, env: Mapping[str, str]) -> float:
    """How long every test takes that a mutant of a module may run, on the unchanged code.

    A test that fails there, and once more by itself, would notice every mutant, so ``RuntimeError`` is raised then.
    """
    env = {**env, "MUTANTS_UNCHANGED": f"dbwatch/{module}.py"}
    began = time.perf_counter()
    test = f"{_pytest(copy, '--cache-clear')} || MUTANTS_AGAIN=1 {_pytest(copy)}"
    ran = subprocess.run(["bash", "-c", test], cwd=copy, env=env, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if ran.returncode:
        raise RuntimeError(
            f"tests of {module} fail on the unchanged code, which says nothing of mutants:\n{ran.stdout}"
        )
    return took


def _pytest(copy: Path, *options: str, limit: int = 0) -> str:
    """A shell command that runs the tests, for so many seconds at most if there is a ``limit``."""
    pytest = ["timeout", str(limit), sys.executable, "-m", "pytest", "-q", "-p", "mutants"]
    return shlex.join([*pytest, "-o", f"cache_dir={copy}/.pytest_cache", *options])


def until_one_fails_twice(copy: Path, limit: int) -> str:
    """The shell command that fails if a test notices a mutant, which is if it fails once more by itself: one that fails
    without the mutant, now and then, has not. Then those behind it are asked as well.
    """
    first, all_of_them = (_pytest(copy, "--cache-clear", option, limit=limit) for option in ("-x", "--maxfail=3"))
    again = f"MUTANTS_AGAIN=1 {_pytest(copy, limit=limit)}"
    return f"{first} && exit; {again} || exit; {all_of_them} || {again}"


def mutate(module: str, copy: Path, observed: Path, again: Sequence[Mutant] = ()) -> list[Mutant]:
    """All mutants of a module, tested, or those alone that have survived before."""
    directory = observed.parent
    pristine = directory / "pristine"
    session, config = directory / f"{module}.sqlite", directory / f"{module}.toml"
    env = environment(copy, MUTANTS_OBSERVED=str(observed), MUTANTS_PRISTINE=str(pristine))
    limit = int(max(_HANGS, seconds_unchanged(module, copy, env)))
    test = f"bash -c {shlex.quote(until_one_fails_twice(copy, limit))}"
    config.write_text(
        "\n".join(
            [
                "[cosmic-ray]",
                f'module-path = "dbwatch/{module}.py"',
                f"timeout = {5.0 * limit}",
                "excluded-modules = []",
                f"test-command = {json.dumps(test)}",
                '[cosmic-ray.distributor]\nname = "local"',
                f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {json.dumps(_LEFT_OUT)}",
            ]
        )
    )

    def tool(name: str, *arguments: str | Path) -> None:
        command = [Path(sys.executable).with_name(name), *arguments]
        subprocess.run(command, cwd=copy, env=env, check=True, stdout=subprocess.DEVNULL)

    tool("cosmic-ray", "init", config, session)
    tool("cr-filter-operators", session, config)
    if again:
        leave_out_all_but(again, session)
    tool("cosmic-ray", "exec", config, session)
    found = list(results(module, session, copy))
    # Others at the same place were noticed before.
    return [mutant for mutant in found if replace(mutant, noticed=False) in again] if again else found


def leave_out_all_but(mutants: Sequence[Mutant], session: Path) -> None:
    """Take out of a session of Cosmic Ray what is not at the place of one of the mutants."""
    wanted = {(mutant.line, f"core/{mutant.operator}") for mutant in mutants}
    with sqlite3.connect(session) as database:
        specs = database.execute("SELECT job_id, start_pos_row, operator_name FROM mutation_specs").fetchall()
        others = [(job,) for job, line, operator in specs if (line, operator) not in wanted]
        for table in ("work_results", "mutation_specs", "work_items"):
            database.executemany(f"DELETE FROM {table} WHERE job_id = ?", others)
    database.close()


def results(module: str, session: Path, copy: Path) -> Iterator[Mutant]:
    """What a session of Cosmic Ray has found."""
    tool = str(Path(sys.executable).with_name("cosmic-ray"))
    for line in subprocess.check_output([tool, "dump", str(session)], text=True, cwd=copy).splitlines():
        item, result = json.loads(line)
        if result is None or result["worker_outcome"] == "skipped":
            continue
        (mutation,) = item["mutations"]
        changed = [part for part in (result["diff"] or "").splitlines() if part[:3] not in ("---", "+++")]
        yield Mutant(
            module,
            mutation["start_pos"][0],
            mutation["operator_name"].removeprefix("core/"),
            " ".join(part[1:].strip() for part in changed if part.startswith("-")),
            " ".join(part[1:].strip() for part in changed if part.startswith("+")),
            result["test_outcome"] != "survived",
        )


def reason_of(mutant: Mutant) -> str:
    """Why a mutant has survived, as far as somebody has looked: the first entry that fits."""
    for entry in tomllib.loads(REASONS.read_text("utf-8"))["reason"]:
        modules, operator = entry.get("modules", [mutant.module]), entry.get("operator", "")
        if mutant.module in modules and operator in mutant.operator and entry["line"] in mutant.before:
            return str(entry["because"])
    return "**not looked into**"


def keep(module: str, found: Sequence[Mutant], *, again: bool) -> None:
    """Replace what is kept of a module."""
    results = kept()
    results[module] = {
        "run_on": f"{datetime.now(UTC):%Y-%m-%d}",
        "source": source(module),
        "mutants": results[module]["mutants"] if again else len(found),
        "survived": [asdict(one) for one in found if not one.noticed],
    }
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")


def source(module: str) -> str:
    """A module as it is, in short: what was found of another one says nothing of it."""
    return hashlib.sha256((ROOT / "dbwatch" / f"{module}.py").read_bytes()).hexdigest()[:12]


def survivors(module: str) -> list[Mutant] | None:
    """Those of a module that have survived, None if it has not been run as it is."""
    result = kept().get(module, {})
    if result.get("source") != source(module):
        return None
    return [Mutant(**one) for one in result["survived"]]


def kept() -> dict[str, dict[str, Any]]:
    """What came of each module that has been run, by its name."""
    return dict(json.loads(RESULTS.read_text("utf-8"))) if RESULTS.exists() else {}


def page() -> str:
    """All modules, and below them every mutant that has survived."""
    results = kept()
    missing = [f"`{name}`" for name in MODULES if name not in results]
    rows = [
        (f"`{name}`", result["mutants"], result["mutants"] - len(result["survived"]), result["run_on"])
        for name, result in sorted(results.items())
    ]
    total = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows), "")
    survived = sorted((Mutant(**one) for result in results.values() for one in result["survived"]), key=_place)
    return "\n\n".join(
        [
            "# Mutants",
            _ABOUT + (f" Not run so far: {', '.join(missing)}." if missing else ""),
            report.table(("module", "mutants", "noticed", "run on"), [*rows, total]),
            "## Survivors",
            report.table(
                ("line", "before", "after", "why no test notices"),
                [(f"`{m.module}` {m.line}", _code(m.before), _code(m.after), reason_of(m)) for m in survived],
            )
            + "\n",
        ]
    )


def _place(mutant: Mutant) -> tuple[str, int]:
    return mutant.module, mutant.line


def _code(line: str) -> str:
    return f"`{line.replace('|', chr(92) + '|')}`"


def main() -> None:
    """Mutate the modules named, or all of them, as many at a time as there are cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help=f"only these of {', '.join(MODULES)}")
    parser.add_argument("--page", action="store_true", help="run nothing, but write the page of what is kept")
    parser.add_argument(
        "--survivors", action="store_true", help="of modules that were run as they are, only what has survived"
    )
    options = parser.parse_args()
    unknown = [name for name in options.modules if name not in MODULES]
    if unknown:
        parser.error(f"nothing is mutated in {', '.join(unknown)}, only in {', '.join(MODULES)}")
    modules = options.modules or list(MODULES)
    again = {name: survived for name in modules if options.survivors and (survived := survivors(name)) is not None}
    if not options.page:
        run(modules, again)
    PAGE.write_text(page(), "utf-8")


def run(modules: Sequence[str], again: Mapping[str, Sequence[Mutant]]) -> None:
    """Mutate these modules, as many at a time as there are cores for us; of those in ``again`` only these mutants."""
    cores = len(os.sched_getaffinity(0))
    writing = Lock()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        observed = directory / "observed.json"
        copies: SimpleQueue[Path] = SimpleQueue()
        for copy in (directory / "pristine", *(directory / f"copy{number}" for number in range(cores))):
            subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
            warm(copy)
            copies.put(copy)
        observe(copies.get(), observed)

        def work(module: str) -> None:
            mine = copies.get()
            try:
                found = mutate(module, mine, observed, again.get(module, ()))
            finally:
                copies.put(mine)
            survived = [mutant for mutant in found if not mutant.noticed]
            with writing:
                keep(module, found, again=module in again)
                sys.stdout.write(f"{module}: {len(found)} mutants, {len(survived)} survived\n")
                sys.stdout.writelines(f"  {m.line} {m.operator}: {m.before} -> {m.after}\n" for m in survived)
                sys.stdout.flush()

        with ThreadPoolExecutor(cores) as threads:
            list(threads.map(work, [name for name in modules if again.get(name, True)]))


if __name__ == "__main__":
    main()
