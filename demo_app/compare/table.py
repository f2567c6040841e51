"""The comparison as tables in Markdown and as JSON."""

import json
from collections.abc import Callable, Sequence

from demo_app.compare.measured import Measured, Row, milliseconds
from demo_app.compare.reported import Said

_HEAD = (
    "| mistake | variant | load | requests/s | p50 | p95 | errors |",
    "|---|---|---|---:|---:|---:|---:|",
)
_SAID_HEAD = ("| mistake | dbwatch reported |", "|---|---|")
_CLAIM_HEAD = ("| mistake | the claim | measured |", "|---|---|---|")
_SUMMARY_HEAD = ("| mistake | broken | fixed | dbwatch says |", "|---|---|---|---|")
#: Findings shown in a cell; those with the most requests come first.
_SHOWN = 3


def full(rows: Sequence[Row]) -> str:
    """Every variant on a line; what dbwatch reported; and the claim of the articles beside the measured figure."""
    figures = [*_HEAD, *(_line(row, measured) for row in rows for measured in row.measured)]
    said = [*_SAID_HEAD, *(_told(row, measured) for row in rows for measured in row.measured if _tells(row, measured))]
    claims = [*_CLAIM_HEAD, *(_claim(row) for row in rows if len(row.measured) > 1)]
    return "\n\n".join("\n".join(table) for table in (figures, said, claims))


def summary(rows: Sequence[Row]) -> str:
    """One line for each mistake: the figure it is about, and the proof."""
    return "\n".join([*_SUMMARY_HEAD, *(_summary(row) for row in rows if len(row.measured) > 1)])


def as_json(rows: Sequence[Row], conditions: str) -> str:
    """The figures, for programs. Times are seconds, shares from 0 to 1."""
    return json.dumps(
        {
            "conditions": conditions,
            "rows": [
                {
                    "scenario": row.scenario.name,
                    "figure": row.scenario.figure,
                    "shortcomings": row.shortcomings(),
                    "variants": [_facts(row, measured) for measured in row.measured],
                }
                for row in rows
            ],
        },
        indent=2,
    )


def _facts(row: Row, measured: Measured) -> dict[str, object]:
    return {
        "variant": measured.variant.name,
        "label": measured.variant.label,
        "requests_per_second": measured.good_per_second,
        "p50": measured.p50,
        "p95": measured.p95,
        "errors": measured.errors,
        "figure": measured.figure(row.scenario.figure),
        "findings": [
            {"finding": said.finding, "line": said.line, "count": said.count} for said in measured.reported.findings
        ],
        "arithmetic": measured.reported.arithmetic,
    }


def _line(row: Row, measured: Measured) -> str:
    scenario = row.scenario
    cells = (
        f"**{scenario.mistake}** (`{scenario.name}`)" if measured is row.measured[0] else "",
        f"{measured.variant.name}: {measured.variant.label}",
        str(scenario.load),
        f"{measured.good_per_second:.0f}",
        milliseconds(measured.p50),
        milliseconds(measured.p95),
        f"{measured.errors:.1%}",
    )
    return f"| {' | '.join(cells)} |"


def _tells(row: Row, measured: Measured) -> bool:
    """Of a correction that nothing is said of there is nothing to tell; a mistake has its line in any case."""
    return measured is row.broken or bool(measured.reported.findings) or row.scenario.apart


def _told(row: Row, measured: Measured) -> str:
    return f"| `{row.scenario.name}`, {measured.variant.name} | {_reported(row, measured)} |"


def _summary(row: Row) -> str:
    said = row.proof()
    says = f"`{said.finding}`" if said else f"remark on `{row.scenario.advice}`" if row.scenario.advice else "nothing"
    figure = row.scenario.figure
    cells = (row.scenario.mistake, row.broken.shown(figure), row.fixed.value(figure), says)
    return f"| {' | '.join(cells)} |"


def _reported(row: Row, measured: Measured) -> str:
    """The proof first, then what follows from it."""
    findings = list(measured.reported.findings)
    proof = row.proof() if measured is row.broken else None
    if proof in findings:
        findings.remove(proof)
        findings.insert(0, proof)
    parts = [_said(said) for said in findings[:_SHOWN]]
    remark = measured.reported.remarks.get(row.scenario.advice)
    if remark:
        parts.append(f"{row.scenario.advice}: {remark}")
    if row.scenario.apart:
        parts.append(measured.reported.arithmetic)
    return "<br>".join(parts) or "nothing"


def _said(said: Said) -> str:
    return f"`{said.finding}` {said.line.removeprefix('demo_app/scenarios/') or 'at no line'}"


def _claim(row: Row) -> str:
    measured = _CLAIMS.get(row.scenario.name, _compared)(row)
    return f"| `{row.scenario.name}` | {row.scenario.claim or 'none'} | {measured} |"


def _compared(row: Row) -> str:
    figure = row.scenario.figure
    return f"{row.broken.shown(figure)} against {row.fixed.value(figure)}."


def _ratio(row: Row) -> str:
    bad, good = row.broken, row.fixed
    return (
        f"p50 {milliseconds(bad.p50)} against {milliseconds(good.p50)}, {bad.p50 / max(good.p50, 1e-9):.1f} times; "
        f"opening a connection took {milliseconds(bad.reported.connect_seconds)} on average."
    )


def _connect(row: Row) -> str:
    return (
        f"{milliseconds(row.broken.reported.connect_seconds)} on average, over loopback, without TLS and without a "
        f"password; {row.broken.opened * 100:.0f} connections opened for 100 checkouts against "
        f"{row.fixed.opened * 100:.0f}."
    )


def _restarts(row: Row) -> str:
    failed = [sum(answer.failed for answer in one.answers) for one in (row.broken, row.fixed)]
    return (
        f"{failed[0]} failed requests after {len(row.broken.rounds)} restarts against {failed[1]}. The first failure "
        "makes SQLAlchemy replace the whole pool, so it is a few requests after each restart, not the app."
    )


def _sizes(row: Row) -> str:
    each = [f"{one.variant.label}: p50 {milliseconds(one.p50)}, p95 {milliseconds(one.p95)}" for one in row.measured]
    fixed = row.fixed
    return (
        f"{'; '.join(each)}. dbwatch at {fixed.variant.label}: {fixed.in_use:.0f} in use on average under load, "
        f"{fixed.reported.p99_needed} needed in the 99th percentile."
    )


_CLAIMS: dict[str, Callable[[Row], str]] = {
    "engine-per-request": _ratio,
    "no-pre-ping": _restarts,
    "overflow-churn": _connect,
    "pool-too-small": _sizes,
}
