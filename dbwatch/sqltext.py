"""What kind of statement a text is, by its leading keyword. Decided once for each text and remembered."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final


class StatementKind(Enum):
    """What matters about a statement for transactions and repetition."""

    READ = auto()
    #: Changes as many rows as the driver counts.
    WRITE = auto()
    #: Adds a row for certain: values and no conflict clause. It may stand within a WITH, where nobody counts its rows.
    INSERT = auto()
    INSERT_WITHIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    SAVEPOINT = auto()
    ROLLBACK_TO = auto()
    #: Changes definitions or privileges; MySQL, MariaDB and Oracle commit before it.
    DEFINITION = auto()
    OTHER = auto()


# For what runs with every statement: reading a member off its class takes 0.1 µs (Python 3.11).
READ: Final = StatementKind.READ
OTHER: Final = StatementKind.OTHER

#: Texts remembered; an app that writes values into its statements has more, and pays for the parsing again.
_REMEMBERED: Final = 2048
#: Characters of a text that is looked at and remembered as a whole. A bulk INSERT or an IN list has another text for
#: each number of values, of any length: of those the two ends tell the same in bounded time and memory.
_LONG: Final = 8000
_END: Final = 1000
#: Names of temporary tables remembered; what is written to those is lost by nobody.
_REMEMBERED_TABLES: Final = 500
_COMMENTS: Final = re.compile(r"\A(?:\s+|--[^\n]*\n|/\*.*?\*/)+", re.DOTALL)
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_INSIDE: Final = re.compile(r"\([^()]*\)")
_ADDS: Final = re.compile(
    r"\bINSERT\s+INTO\b(?!.*\b(?:SELECT|CONFLICT|DUPLICATE)\b).*\bVALUES\b", re.IGNORECASE | re.DOTALL
)
_VERB: Final = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|MERGE|VALUES|TABLE)\b", re.IGNORECASE)
_TABLE: Final = r"(?:[\w$#]+\.)?([\w$#]+)"
_TEMPORARY: Final = re.compile(
    rf"\ACREATE\s+(?:(?:LOCAL|GLOBAL)\s+)?TEMP(?:ORARY)?\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?{_TABLE}", re.IGNORECASE
)
_TARGET: Final = re.compile(
    rf"\b(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE(?:\s+ONLY)?|DELETE\s+FROM|MERGE\s+INTO|REPLACE\s+INTO)\s+{_TABLE}",
    re.IGNORECASE,
)
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
    # "Statements That Cause an Implicit Commit" of the MySQL manual, and Oracle's DDL.
    **dict.fromkeys(
        (
            *("ALTER", "ANALYZE", "AUDIT", "BEGIN", "CACHE", "CHECK", "COMMENT", "CREATE", "DROP", "FLUSH", "GRANT"),
            *("INSTALL", "LOCK", "OPTIMIZE", "RENAME", "REPAIR", "REVOKE", "START", "TRUNCATE", "UNINSTALL", "UNLOCK"),
        ),
        StatementKind.DEFINITION,
    ),
}

#: Functions that are called for what they do: settings, notifications, sequences, locks (PostgreSQL, MySQL).
_EFFECTS: Final = re.compile(
    r"\A\s*SELECT\s+(?:pg_catalog\.)?(?:set_config|pg_notify|nextval|setval|currval|lastval|pg_(?:try_)?advisory\w*|"
    r"get_lock|release_lock)\s*\((?!.*\bFROM\b)",
    re.IGNORECASE | re.DOTALL,
)
#: The number of rows asked for: a literal, a named or numbered placeholder, or the next one in order.
_PAGE: Final = re.compile(
    r"\b(?:LIMIT|FETCH\s+(?:FIRST|NEXT)|TOP)\s*\(?\s*(?:(?P<rows>\d+)|%\((?P<name>\w+)\)s|[:@](?P<bound>\w+)|"
    r"\$(?P<number>\d+)|(?P<next>\?|%s))",
    re.IGNORECASE,
)

#: Texts looked at so far, filled by :func:`kind_of`. To look here first spares a call with every statement.
KNOWN: Final[dict[str, StatementKind]] = {}
#: For the whole process: a table of the same name that is not temporary is left out with them.
_temporary_tables: dict[str, None] = {}


def kind_of(statement: str) -> StatementKind:
    """The kind of a statement."""
    if len(statement) > _LONG:
        return _kind_of_long(statement)
    kind = KNOWN.get(statement)
    if kind is None:
        kind = _classify(statement)
        if len(KNOWN) >= _REMEMBERED:
            KNOWN.clear()
        KNOWN[statement] = kind
    return kind


def _kind_of_long(statement: str) -> StatementKind:
    if _COMMENTS.sub("", statement[:_END]).lstrip("( \t\r\n")[:4].upper() == "WITH":
        # Its parentheses cannot be matched from the ends: one that writes somewhere stays in doubt.
        return StatementKind.OTHER if _WRITING.search(statement) else StatementKind.READ
    return kind_of(f"{statement[:_END]} {statement[-_END:]}")


def _classify(statement: str) -> StatementKind:
    text = _COMMENTS.sub("", statement).lstrip("( \t\r\n")
    words = text[:60].upper().split(None, 3)
    if not words:
        return StatementKind.OTHER
    if words[0] == "ROLLBACK":
        return StatementKind.ROLLBACK_TO if "TO" in words[1:3] else StatementKind.ROLLBACK
    if words[:2] == ["PREPARE", "TRANSACTION"]:
        return StatementKind.COMMIT
    if words[0] == "CREATE":
        _remember_temporary(text)
    if words[0] in ("CREATE", "DROP") and any(word.startswith("TEMP") for word in words[1:3]):
        return StatementKind.OTHER  # commits nothing
    if words[0] == "WITH":
        return _with(_QUOTED.sub("''", text))
    kind = _BY_KEYWORD.get(words[0].rstrip(";"), StatementKind.OTHER)
    return _write(text) if kind is StatementKind.WRITE else kind


def _write(text: str) -> StatementKind:
    if _is_temporary(text):
        return StatementKind.OTHER
    return StatementKind.INSERT if _ADDS.match(_QUOTED.sub("''", text)) else StatementKind.WRITE


def _with(text: str) -> StatementKind:
    """A WITH whose last part writes is counted by the driver. One that writes further in and then reads is not: then
    only an INSERT of values is certain, and whatever else it may be stays in doubt.
    """
    last = text
    while (inner := _INSIDE.sub("", last)) != last:
        last = inner
    verb = _VERB.search(last)
    if verb is not None and verb[0].upper() not in ("SELECT", "VALUES", "TABLE"):
        return StatementKind.OTHER if _is_temporary(last[verb.start() :]) else StatementKind.WRITE
    if not _WRITING.search(text):
        return StatementKind.READ
    within = [part for part in _parts(text) if _ADDS.match(part) and not _is_temporary(part)]
    return StatementKind.INSERT_WITHIN if within else StatementKind.OTHER


def _parts(text: str) -> list[str]:
    """What stands in the outermost parentheses."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character == "(":
            depth += 1
            if depth == 1:
                start = position + 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                parts.append(text[start:position].strip())
    return parts


def _remember_temporary(text: str) -> None:
    created = _TEMPORARY.match(text.replace('"', ""))
    if created is not None:
        if len(_temporary_tables) >= _REMEMBERED_TABLES:
            del _temporary_tables[next(iter(_temporary_tables))]
        _temporary_tables[created[1].lower()] = None
        KNOWN.clear()  # among them may be statements that write to a table of this name


def _is_temporary(text: str) -> bool:
    """True if the first table written to is known to be temporary."""
    target = _TARGET.search(text.replace('"', ""))
    return target is not None and (target[1].lower() in _temporary_tables or target[1].startswith("#"))


def savepoint_name(statement: str) -> str:
    """The name in ``SAVEPOINT name`` or ``ROLLBACK TO [SAVEPOINT] name``."""
    return statement.rstrip("; \n").rpartition(" ")[2]


def has_an_effect(statement: str) -> bool:
    """True if a SELECT fetches nothing but calls a function for what it does: a setting, a sequence, a lock."""
    return _EFFECTS.match(statement) is not None


def page_size(statement: str, parameters: Mapping[str, Any] | Sequence[Any]) -> int:
    """Rows that a SELECT asks for at most by its last LIMIT, FETCH FIRST or TOP; 0 where nothing says so."""
    last = None
    for last in _PAGE.finditer(statement):  # noqa: B007  only the last is of the whole statement
        pass
    if last is None:
        return 0
    if last["rows"]:
        return int(last["rows"])
    name = last["name"] or last["bound"]
    if isinstance(parameters, Mapping):
        asked = parameters.get(name)
    else:
        place = int(last["number"] or 0) - 1 if last["number"] else statement[: last.start("next")].count(last["next"])
        asked = parameters[place] if place < len(parameters) else None
    return asked if isinstance(asked, int) else 0


def shortened(statement: str, limit: int = 300) -> str:
    """One line of at most ``limit`` characters, for reports. Bound parameters are never part of the text."""
    line = " ".join(statement.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
