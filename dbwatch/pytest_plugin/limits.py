"""The limits of ``@pytest.mark.dbwatch(...)`` and of the fixture."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from dbwatch.pytest_plugin.tally import Use

#: Places listed under a limit that was passed.
_LISTED = 5


class LimitError(ValueError):
    """A limit is none of ours, or no number."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the database may be used, None for any.

    Attributes:
        max_statements: statements run.
        max_checkouts: connections taken, each time counted.
        max_connections: connections out at once.
    """

    max_statements: int | None = None
    max_checkouts: int | None = None
    max_connections: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Limits":
        """The limits given as keywords.

        Raises:
            LimitError: one is unknown, or is no whole number from 0 up.
        """
        names = [field.name for field in fields(cls)]
        for name, value in given.items():
            if name not in names:
                raise LimitError(f"there is no limit {name!r}; the limits are {', '.join(names)}.")
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise LimitError(f"{name} is {value!r}; allowed is a whole number from 0 up.")
        return cls(**given)

    def complaint(self, use: Use, what: str) -> str:
        """Which limits ``what`` has passed and where; empty if none."""
        told = (
            (self.max_statements, use.statements, "statements run", "max_statements"),
            (self.max_checkouts, use.checkouts, "connections taken", "max_checkouts"),
            (self.max_connections, use.connections, "connections out at once", "max_connections"),
        )
        passed = [
            f"Too many {noun} in {what}: {number}, allowed {limit} [{name}]."
            for limit, number, noun, name in told
            if limit is not None and number > limit
        ]
        if not passed:
            return ""
        places = [f"    {number} in {place}" for place, number in use.places.most_common(_LISTED)]
        more = len(use.places) - _LISTED
        return "\n".join([*passed, *_titled(places), *([f"    and {more} more places"] if more > 0 else [])])


def _titled(places: list[str]) -> Iterable[str]:
    return ["  Statements by the place that took the connection:", *places] if places else []
