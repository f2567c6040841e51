"""Every PromQL expression of the dashboards, rules and runbooks, and what it asks for."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from dbwatch.outputs.grafana.dashboards import dashboard_files
from dbwatch.outputs.grafana.frame import DashboardOptions
from dbwatch.outputs.grafana.rules import rule_files
from dbwatch.outputs.grafana.thresholds import RuleOptions

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"

_VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$job": ".+",
    "$instance": ".+",
    "$pool": ".+",
    "$route": ".+",
}
_LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


@dataclass(frozen=True)
class Expression:
    """An expression, where it stands, and the title of the panel it fills."""

    where: str
    text: str
    panel: str = ""

    @property
    def runnable(self) -> str:
        """As Prometheus gets it with everything selected."""
        text = self.text
        for variable, value in _VARIABLES.items():
            text = text.replace(variable, value)
        return text


@dataclass
class Asked:
    """What an expression asks for: matchers by series, and labels it groups by or matches on."""

    matched: list[tuple[str, list[tuple[str, str, str]]]] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)

    @property
    def series(self) -> set[str]:
        """The names of all series."""
        return {name for name, _ in self.matched}


def dashboards() -> dict[str, dict[str, Any]]:
    """The generated dashboards by uid."""
    built = [json.loads(text) for text in dashboard_files(DashboardOptions()).values()]
    return {dashboard["uid"]: dashboard for dashboard in built}


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All panels that are not rows, those in collapsed rows included."""
    found: list[dict[str, Any]] = []
    for panel in dashboard["panels"]:
        found.extend(panel["panels"] if panel["type"] == "row" else [panel])
    return found


def rules(options: RuleOptions | None = None) -> list[dict[str, Any]]:
    """The generated rules, recording and alerting."""
    files = rule_files(options or RuleOptions()).values()
    return [rule for text in files for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The generated alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard_expressions() -> Iterator[Expression]:
    """Those of panels, variables and annotations."""
    for uid, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield Expression(f"{uid}, panel {panel['title']!r}", target["expr"], panel["title"])
        for annotation in dashboard["annotations"]["list"]:
            yield Expression(f"{uid}, annotation {annotation['name']!r}", annotation["expr"])
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found = _LABEL_VALUES.fullmatch(variable["query"]["query"])
                assert found, variable["query"]
                yield Expression(
                    f"{uid}, variable {variable['name']}", f"count by ({found['label']}) ({found['series']})"
                )


def rule_expressions() -> Iterator[Expression]:
    """Those of the rules."""
    for rule in rules():
        yield Expression(f"rule {rule.get('alert') or rule['record']}", rule["expr"])


def runbook_expressions() -> Iterator[Expression]:
    """Those in the runbooks' promql blocks, with placeholders such as <pool> filled."""
    for page in sorted(RUNBOOKS.glob("*.md")):
        for number, block in enumerate(re.findall(r"```promql\n(.*?)```", page.read_text("utf-8"), re.DOTALL)):
            text = re.sub(r'="<\w+>"', '=~".+"', block.strip())
            yield Expression(f"{page.name}, query {number + 1}", text)


def every_expression() -> list[Expression]:
    """All of them."""
    return [*dashboard_expressions(), *rule_expressions(), *runbook_expressions()]


def asked(expression: Expression) -> Asked:
    """Parse an expression; ValueError with the place for a mistake in it."""
    found = Asked()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = [(matcher.name, str(matcher.op), matcher.value) for matcher in node.matchers.matchers]
            found.matched.append((node.name or "", matchers))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.labels.update(node.modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None:
            found.labels.update(node.modifier.group_labels or ())
            matching = node.modifier.matching
            found.labels.update(matching.labels if matching is not None else ())
        return True

    try:
        promql_parser.walk(promql_parser.parse(expression.runnable), visit)
    except ValueError as error:
        raise ValueError(f"{expression.where}: {error}\n{expression.runnable}") from None
    return found
