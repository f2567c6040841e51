"""Finding a scenario by the name that somebody typed."""

from difflib import get_close_matches

from demo_app.processes import DemoError
from demo_app.scenarios import SCENARIOS
from demo_app.scenarios.scenario import Scenario


def find_scenario(name: str) -> Scenario:
    """The scenario of this name. Raises DemoError with the way out if there is none."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    near = get_close_matches(name, SCENARIOS, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise DemoError(f"There is no scenario {name!r}; {meant}`python -m demo_app --list` shows all.")
