"""What the demo shows at a time."""

from dataclasses import dataclass

from demo_app.scenarios.scenario import Scenario, Variant


@dataclass(frozen=True, slots=True)
class Act:
    """A variant of a scenario; without them, the shop alone."""

    scenario: Scenario | None = None
    variant: Variant | None = None

    def __str__(self) -> str:
        if self.scenario is None or self.variant is None:
            return "the shop"
        return f"{self.scenario.name}, {self.variant.name}"
