"""Findings in groups: the same mistake at the same code line is one entry, however often it was seen."""

from collections.abc import Iterable

from dbwatch.catalog import FINDINGS
from dbwatch.facts import Finding
from dbwatch.outputs.live.document import FindingGroup

#: Groups shown, latest first.
SHOWN = 60

Key = tuple[str, str, str, str, str]


def key_of(finding: Finding) -> Key:
    """What the findings of one group share."""
    line = finding.lines[0] if finding.lines else ""
    return (finding.finding, finding.pool, finding.method, finding.route, line)


def group(findings: Iterable[Finding], returned: Iterable[Finding], pid: int) -> list[FindingGroup]:
    """Groups of one worker's findings, latest first; the message is that of the latest.

    ``returned`` are the leaks among them whose connection has come back.
    """
    groups: dict[Key, FindingGroup] = {}
    back = {id(finding) for finding in returned}
    for finding in findings:
        key = key_of(finding)
        known = groups.get(key)
        if known is None:
            known = groups[key] = {
                "finding": finding.finding,
                "pool": finding.pool,
                "method": finding.method,
                "route": finding.route,
                "lines": list(finding.lines),
                "count": 0,
                "first_at": finding.at,
                "last_at": finding.at,
                "message": finding.message,
                "returned": 0,
                "workers": [pid],
            }
        known["count"] += 1
        known["last_at"] = finding.at
        known["message"] = finding.message
        known["returned"] += id(finding) in back
    return _latest(groups.values())


def merge(per_worker: Iterable[list[FindingGroup]]) -> list[FindingGroup]:
    """The groups of several workers together, latest first, with what the catalogue says of each."""
    groups: dict[Key, FindingGroup] = {}
    for worker in per_worker:
        for one in worker:
            line = one["lines"][0] if one["lines"] else ""
            key = (one["finding"], one["pool"], one["method"], one["route"], line)
            known = groups.get(key)
            if known is None:
                groups[key] = {**one, **_catalogue(one["finding"])}
                continue
            if one["last_at"] > known["last_at"]:
                known["last_at"], known["message"] = one["last_at"], one["message"]
            known["first_at"] = min(known["first_at"], one["first_at"])
            known["count"] += one["count"]
            known["returned"] += one["returned"]
            known["workers"] = sorted({*known["workers"], *one["workers"]})
    return _latest(groups.values())


def _latest(groups: Iterable[FindingGroup]) -> list[FindingGroup]:
    return sorted(groups, key=lambda one: one["last_at"], reverse=True)[:SHOWN]


def _catalogue(finding: str) -> FindingGroup:
    kind = FINDINGS.get(finding)
    if kind is None:  # another worker runs another version
        return {"title": finding, "cause": "", "fix": "", "page": ""}  # type: ignore[typeddict-item]
    return {"title": kind.title, "cause": kind.cause, "fix": kind.fix, "page": kind.page}  # type: ignore[typeddict-item]
