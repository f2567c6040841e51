"""What kind of statement a text is, by its leading keyword. Decided once for each text and remembered."""

import re
from enum import Enum, auto
from typing import Final


class StatementKind(Enum):
    """What matters about a statement for transactions and repetition."""

    READ = auto()
    WRITE = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    SAVEPOINT = auto()
    ROLLBACK_TO = auto()
    OTHER = auto()


#: Texts remembered; an app that writes values into its statements has more, and pays for the parsing again.
_REMEMBERED: Final = 2048
_COMMENTS: Final = re.compile(r"\A(?:\s+|--[^\n]*\n|/\*.*?\*/)+", re.DOTALL)
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
# "FOR UPDATE" and "FOR NO KEY UPDATE" lock rows and change none.
_WRITING: Final = re.compile(
    r"(?<!FOR )(?<!KEY )\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO)\b", re.IGNORECASE
)

_BY_KEYWORD: Final = {
    "SELECT": StatementKind.READ,
    "VALUES": StatementKind.READ,
    "INSERT": StatementKind.WRITE,
    "UPDATE": StatementKind.WRITE,
    "DELETE": StatementKind.WRITE,
    "MERGE": StatementKind.WRITE,
    "REPLACE": StatementKind.WRITE,
    "COMMIT": StatementKind.COMMIT,
    "SAVEPOINT": StatementKind.SAVEPOINT,
}

_known: dict[str, StatementKind] = {}


def kind_of(statement: str) -> StatementKind:
    """The kind of a statement."""
    kind = _known.get(statement)
    if kind is None:
        kind = _classify(statement)
        if len(_known) >= _REMEMBERED:
            _known.clear()
        _known[statement] = kind
    return kind


def _classify(statement: str) -> StatementKind:
    text = _COMMENTS.sub("", statement).lstrip("( \t\r\n")
    words = text[:60].upper().split(None, 3)
    if not words:
        return StatementKind.OTHER
    if words[0] == "ROLLBACK":
        return StatementKind.ROLLBACK_TO if "TO" in words[1:3] else StatementKind.ROLLBACK
    if words[:2] == ["PREPARE", "TRANSACTION"]:
        return StatementKind.COMMIT
    if words[0] == "WITH":
        return StatementKind.WRITE if _WRITING.search(_QUOTED.sub("", text)) else StatementKind.READ
    return _BY_KEYWORD.get(words[0].rstrip(";"), StatementKind.OTHER)


def savepoint_name(statement: str) -> str:
    """The name in ``SAVEPOINT name`` or ``ROLLBACK TO [SAVEPOINT] name``."""
    return statement.rstrip("; \n").rpartition(" ")[2]


def shortened(statement: str, limit: int = 300) -> str:
    """One line of at most ``limit`` characters, for reports. Bound parameters are never part of the text."""
    line = " ".join(statement.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
