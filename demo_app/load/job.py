"""What the load generator is told to do for a scenario, and what it brings back. Times are seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Job:
    """Requests to the app at ``url`` for ``seconds``; None: until it is stopped.

    ``users`` or ``rate`` as in ``Load``; the users come one after the other within ``ramp`` seconds. With ``bystander``
    one more client asks for a route that needs no database.
    """

    url: str
    method: str
    paths: tuple[str, ...]
    users: int | None
    rate: float | None
    seconds: float | None
    bystander: bool = True
    ramp: float = 0.0


class Answer(NamedTuple):
    """One request: when it ended, counted from the start of the job, how long it took, and its status (0: none)."""

    at: float
    seconds: float
    status: int

    @property
    def failed(self) -> bool:
        """Whether the app had no answer, or 5xx."""
        return not 0 < self.status < 500


class Answers(NamedTuple):
    """All requests of a job, those to the bystander's route apart."""

    endpoint: Sequence[Answer]
    bystander: Sequence[Answer]


def percentile(seconds: Sequence[float], share: float) -> float:
    """The time within which this share of the requests was answered; 0 without any."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
