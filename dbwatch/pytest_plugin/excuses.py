"""Findings that fail no test: those that are ignored for a reason, and those that the baseline file knows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dbwatch.catalog import FINDINGS
from dbwatch.facts import Finding

_RULE = re.compile(
    r"(?P<finding>\S+)(?:\s+at\s+(?P<file>\S+))?(?:\s+in\s+(?P<test>\S.*?))?\s+because\s+(?P<reason>\S.*)"
)
_LINE = re.compile(r"(?P<file>.+):\d+ (?P<function>.+)")
_HEADER = """\
# What dbwatch found in this project and what is not mended yet: finding, file and function. Tests do not fail for it.
# Take a line out when its mistake is mended; `pytest --dbwatch-write-baseline` writes the file anew.
"""


class ExcuseError(ValueError):
    """A rule or a baseline file cannot be read. The message names it and says what is allowed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of ``dbwatch_ignore``, or a mark: what is ignored, and why. Empty is anything."""

    finding: str
    reason: str
    file: str = ""
    test: str = ""

    @classmethod
    def read(cls, line: str) -> "Rule":
        """The rule that a line of the ini file states.

        Raises:
            ExcuseError: it states none.
        """
        match = _RULE.fullmatch(line.strip())
        if match is None:
            raise ExcuseError(
                f"dbwatch_ignore has the line {line!r}; allowed is: FINDING [at FILE] [in TEST] because REASON, for "
                "example: idle_hold at shop/reports.py because the report is made at night"
            )
        part = match.groupdict(default="")
        return cls(known_finding(part["finding"], "dbwatch_ignore"), part["reason"], part["file"], part["test"])

    def covers(self, finding: Finding, test: str) -> bool:
        """True if the finding in this test is to be ignored."""
        file, _ = place(finding)
        return (
            self.finding in ("", finding.finding)
            and (not self.file or fnmatchcase(file, self.file))
            and (not self.test or _is_of(test, self.test))
        )


def known_finding(name: str, where: str) -> str:
    """The name of a finding, empty for any.

    Raises:
        ExcuseError: there is none of this name.
    """
    if name == "*":
        return ""
    if name in FINDINGS:
        return name
    raise ExcuseError(f"{where}: there is no finding {name!r}; the findings are {', '.join(FINDINGS)}, and * for any.")


def _is_of(test: str, pattern: str) -> bool:
    return (
        test == pattern or test.startswith((f"{pattern}::", f"{pattern}[", f"{pattern}/")) or fnmatchcase(test, pattern)
    )


def place(finding: Finding) -> tuple[str, str]:
    """File and function of a finding, without the line, which moves; its route if the app's code had no part in it."""
    match = _LINE.fullmatch(finding.lines[0]) if finding.lines else None
    if match is None:
        return ("", f"{finding.method} {finding.route}")
    return (match["file"].replace("\\", "/"), match["function"])


def entry(finding: Finding) -> str:
    """The line of the baseline file that stands for a finding."""
    return " ".join(part for part in (finding.finding, *place(finding)) if part)


def read_baseline(path: Path) -> frozenset[str]:
    """The entries of a baseline file.

    Raises:
        ExcuseError: it cannot be read.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ExcuseError(
            f"dbwatch_baseline: cannot read {path} ({error.strerror}). Write it with --dbwatch-write-baseline, or take "
            "the setting away."
        ) from None
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def write_baseline(path: Path, entries: Iterable[str]) -> None:
    """Write a baseline file.

    Raises:
        ExcuseError: it cannot be written.
    """
    try:
        path.write_text(_HEADER + "".join(f"{line}\n" for line in sorted(set(entries))), "utf-8")
    except OSError as error:
        raise ExcuseError(f"dbwatch_baseline: cannot write {path} ({error.strerror}).") from None
