"""What was measured of a variant, and whether it is what the scenario is about."""

from dataclasses import dataclass
from itertools import chain

from demo_app.compare.reported import Reported, Said
from demo_app.load.job import Answer, Answers, percentile
from demo_app.scenarios.scenario import FigureName, Scenario, Variant

_WORDS: dict[FigureName, str] = {
    "p50": "p50 {}",
    "errors": "{} errors",
    "bystander": "a route without a database: p95 {}",
    "lost": "{} of the created rows lost",
    "opened": "{} connections opened for 100 checkouts",
}


@dataclass(frozen=True, slots=True)
class Round:
    """One round: how long requests were sent, what came back, how many rows it left in the table of customers, and for
    how many seconds connections were held, if that was asked.
    """

    seconds: float
    answers: Answers
    rows: int
    held: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All rounds of a variant, and what dbwatch said at the end. Times are seconds, shares from 0 to 1."""

    variant: Variant
    rounds: tuple[Round, ...]
    reported: Reported

    @property
    def answers(self) -> list[Answer]:
        """All requests to the endpoint."""
        return list(chain.from_iterable(round_.answers.endpoint for round_ in self.rounds))

    @property
    def good_per_second(self) -> float:
        """Requests answered without an error for each second until the last answer."""
        good = sum(not answer.failed for answer in self.answers)
        seconds = [max([round_.seconds, *(answer.at for answer in round_.answers.endpoint)]) for round_ in self.rounds]
        return good / sum(seconds)

    @property
    def p50(self) -> float:
        """The median of all requests, failed ones included."""
        return percentile([answer.seconds for answer in self.answers], 0.5)

    @property
    def p95(self) -> float:
        """The 95th percentile of all requests, failed ones included."""
        return percentile([answer.seconds for answer in self.answers], 0.95)

    @property
    def errors(self) -> float:
        """The share of requests answered with 5xx or not at all."""
        answers = self.answers
        return sum(answer.failed for answer in answers) / len(answers) if answers else 0.0

    @property
    def bystander(self) -> float:
        """The 95th percentile of a route that needs no database."""
        others = chain.from_iterable(round_.answers.bystander for round_ in self.rounds)
        return percentile([answer.seconds for answer in others], 0.95)

    @property
    def lost(self) -> float:
        """The share of requests answered with 201 whose row is not in the database."""
        created = sum(answer.status == 201 for answer in self.answers)
        return 1 - sum(round_.rows for round_ in self.rounds) / created if created else 0.0

    @property
    def opened(self) -> float:
        """Connections opened for each checkout, the warm-up included."""
        return self.reported.opened / max(1, self.reported.checkouts)

    @property
    def in_use(self) -> float:
        """Connections in use on average while requests were sent."""
        return sum(round_.held for round_ in self.rounds) / sum(round_.seconds for round_ in self.rounds)

    def figure(self, name: FigureName) -> float:
        """The figure that a scenario is about; more is worse."""
        value: float = getattr(self, name)
        return value

    def value(self, name: FigureName) -> str:
        """The figure as the tables show it."""
        value = self.figure(name)
        if name in {"p50", "bystander"}:
            return milliseconds(value)
        return f"{value * 100:.0f}" if name == "opened" else f"{value:.1%}"

    def shown(self, name: FigureName) -> str:
        """The figure with the word for it."""
        return _WORDS[name].format(self.value(name))


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario with all its variants measured."""

    scenario: Scenario
    measured: tuple[Measured, ...]

    @property
    def broken(self) -> Measured:
        """The variant with the mistake."""
        return self.measured[0]

    @property
    def fixed(self) -> Measured:
        """The corrected variant."""
        return self.measured[-1]

    def proof(self) -> Said | None:
        """The finding that proves the mistake at the right line; None without one."""
        for said in self.broken.reported.findings:
            if said.finding in self.scenario.findings and said.place in self.scenario.marked:
                return said
        return None

    def shortcomings(self) -> list[str]:
        """What is not as it should be, as sentences."""
        scenario = self.scenario
        found = [
            f"{scenario.name}: dbwatch accused {measured.variant.name} of {said.finding} at {said.line or 'no line'}."
            for measured in self.measured
            if measured.variant.name in {"fixed", "plain-def"}
            for said in measured.reported.findings
        ]
        if len(self.measured) == 1:
            return found
        bad, good = self.broken.figure(scenario.figure), self.fixed.figure(scenario.figure)
        if not bad > good:
            found.append(
                f"{scenario.name}: broken is no worse than fixed: {self.broken.shown(scenario.figure)} against "
                f"{self.fixed.shown(scenario.figure)}."
            )
        if scenario.findings and self.proof() is None:
            said_instead = ", ".join(f"{said.finding} at {said.line}" for said in self.broken.reported.findings)
            found.append(
                f"{scenario.name}: none of {', '.join(sorted(scenario.findings))} at "
                f"{', '.join(sorted(scenario.marked))}, but {said_instead or 'nothing'}."
            )
        if scenario.advice and scenario.advice not in self.broken.reported.remarks:
            found.append(f"{scenario.name}: no remark on {scenario.advice}.")
        if scenario.advice and scenario.advice in self.fixed.reported.remarks:
            found.append(f"{scenario.name}: the fixed variant has a remark on {scenario.advice} too.")
        return found


def milliseconds(seconds: float) -> str:
    """A time as the tables show it."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
