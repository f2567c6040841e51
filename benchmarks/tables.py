"""Results as Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.plugin import Cost
from benchmarks.results import Added, Result, interval
from benchmarks.throughput import Compared
from benchmarks.workloads import Workload

_OWN_CODE = "dbwatch/"
_REFERENCES = {"prometheus_instrumentator": "of instrumentator", "otel": "of OpenTelemetry"}


def requests(result: Result) -> str:
    """What each variant adds to a request of one workload."""
    lines = [
        f"**{result.title}** (bare app: {_micro(result.bare)} µs a request, quiet {_micro(result.bare_quiet)})",
        "",
        "| variant | added µs, median (95 %) | added µs, quiet | quiet, of instrumentator | quiet, of OpenTelemetry |",
        "|---|---|---|---|---|",
    ]
    references = [_row(result, name) for name in _REFERENCES]
    for row in result.added:
        cells = [
            row.title,
            f"{_micro(row.median)} ({_micro(row.lowest)} to {_micro(row.highest)})",
            _micro(row.quiet),
            *(_ratio(row.quiet, reference) for reference in references),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\nWithout {name}: {reason}." for name, reason in result.unavailable.items()]
    return "\n".join(lines)


def per_unit(unit: str, few: Result, many: Result, further: int) -> str:
    """What each further statement or checkout costs: the difference of two workloads, divided by their number."""
    earlier = {row.variant: row for row in few.added}
    lines = [
        f"**Each further {unit}** ({few.workload} against {many.workload})",
        "",
        f"| variant | added µs a {unit}, median | quiet |",
        "|---|---|---|",
    ]
    for row in many.added:
        before = earlier.get(row.variant)
        if before is not None:
            middle, quiet = (row.median - before.median) / further, (row.quiet - before.quiet) / further
            lines.append(f"| {row.title} | {middle * 1e6:.2f} | {quiet * 1e6:.2f} |")
    return "\n".join(lines)


def counts(workload: Workload, unit: str, counted: Mapping[str, float]) -> str:
    """What each variant adds to a request, in instructions or bytecodes."""
    bare = counted["bare"]
    added = {name: value - bare for name, value in counted.items() if name != "bare"}
    lines = [
        f"**{workload.title}** (bare app: {bare:,.0f} {unit} a request)",
        "",
        f"| variant | added {unit} | of instrumentator | of OpenTelemetry |",
        "|---|---|---|---|",
    ]
    for name, value in added.items():
        ratios = (f"{value / added[other]:.2f}" if other in added else "" for other in _REFERENCES)
        lines.append(f"| {' | '.join((name.replace('_', ' '), f'{value:,.0f}', *ratios))} |")
    return "\n".join(lines)


def functions(counted: Sequence[tuple[str, float, float]], most: int) -> str:
    """Where dbwatch's bytecodes are executed."""
    lines = ["| bytecodes | calls | function |", "|---|---|---|"]
    own = [row for row in counted if row[0].startswith(_OWN_CODE)][:most]
    lines += [f"| {bytecodes:.1f} | {calls:.2f} | `{name}` |" for name, bytecodes, calls in own]
    return "\n".join(lines)


def swapped(seconds: Mapping[str, Sequence[float]]) -> str:
    """What a statement takes with each set of hooks, and how much more that is in each round than with the first."""
    bare = next(iter(seconds))
    lines = ["| hooks | µs a statement, median | more, median (95 %) |", "|---|---|---|"]
    for title, taken in seconds.items():
        more = sorted(one - bare for one, bare in zip(taken, seconds[bare], strict=True))
        lowest, highest = interval(more)
        added = "" if title == bare else f"{_micro(median(more))} ({_micro(lowest)} to {_micro(highest)})"
        lines.append(f"| {title} | {_micro(median(taken))} | {added} |")
    return "\n".join(lines)


def scrapes(measured: Iterable[Mapping[str, float]]) -> str:
    """Time of a scrape and the longest stall of the loop, by number of routes."""
    lines = [
        "| routes | pools | series | ms, CPU | ms, elapsed | longest stall, ms | idle, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in measured:
        times = (f"{row[name] * 1e3:.1f}" for name in ("cpu", "seconds", "stall", "idle_stall"))
        lines.append(f"| {' | '.join((*(f'{row[name]:.0f}' for name in ('routes', 'pools', 'series')), *times))} |")
    return "\n".join(lines)


def kept(found: Mapping[str, Mapping[str, Any]], requests: int) -> str:
    """Memory by variant: for a route, and of the process on the way."""
    lines = [
        f"| variant | KiB for a route, first used | MiB of the process, at each tenth of {requests:,} requests |",
        "|---|---|---|",
    ]
    for name, row in found.items():
        mebibytes = ", ".join(f"{value:.1f}" for value in row["mebibytes"])
        lines.append(f"| {name.replace('_', ' ')} | {row['route_bytes'] / 1024:.1f} | {mebibytes} |")
    return "\n".join(lines)


def throughput(compared: Iterable[Compared]) -> str:
    """Requests a second and latencies of each server."""
    lines = ["| server | requests a second | of the first (95 %) | p50, ms | p99, ms |", "|---|---|---|---|---|"]
    for row in compared:
        ratio = f"{row.ratio:.3f} ({row.lowest:.3f} to {row.highest:.3f})"
        lines.append(f"| {row.title} | {row.rate:.0f} | {ratio} | {row.p50 * 1e3:.1f} | {row.p99 * 1e3:.1f} |")
    return "\n".join(lines)


def _row(result: Result, variant: str) -> Added | None:
    return next((row for row in result.added if row.variant == variant), None)


def _ratio(value: float, reference: Added | None) -> str:
    return "" if reference is None or reference.quiet <= 0 else f"{value / reference.quiet:.2f}"


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


def further(results: Iterable[Result]) -> list[str]:
    """One table for each pair of workloads that differ in nothing but the number of their statements or checkouts."""
    by_name = {result.workload: result for result in results}
    pairs = (
        ("inline-1", "inline-10"),
        ("inline-1", "inline-100"),
        ("sqlite-1", "sqlite-10"),
        ("thread-1", "thread-10"),
        ("cycles-1", "cycles-101"),
    )
    tables = []
    for few, many in pairs:
        if few in by_name and many in by_name:
            one, other = by_name[few], by_name[many]
            statements = other.statements - one.statements
            unit, number = ("statement", statements) if statements else ("checkout", other.checkouts - one.checkouts)
            tables.append(per_unit(unit, one, other, number))
    return tables


def plugin(costs: Sequence[Cost]) -> str:
    """What the pytest plugin adds to the CPU time of a suite."""
    lines = ["| plugin | CPU s, fastest run | ratio, median of rounds | ratios |", "|---|---|---|---|"]
    for cost in costs:
        ratios = ", ".join(f"{ratio:.3f}" for ratio in cost.ratios)
        lines.append(f"| {cost.variant} | {min(cost.seconds):.1f} | {median(cost.ratios):.3f} | {ratios} |")
    return "\n".join(lines)
