"""The rules as Prometheus reads them, and what each alert promises."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbwatch.catalog import METRICS
from dbwatch.outputs.grafana.promql import metric_of
from dbwatch.outputs.grafana.rules import rule_files
from dbwatch.outputs.grafana.thresholds import RuleOptions, Thresholds
from tests.grafana.expressions import ROOT, RUNBOOKS, Expression, alerts, asked, rules
from tests.grafana.programs import prometheus_program

COMMITTED = ROOT / "grafana" / "prometheus" / "rules"
CASES = sorted((Path(__file__).parent / "rules").glob("*.yml"))
ALERTS = alerts()
EVERY_ALERT = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)


def _promtool(*arguments: str | Path) -> None:
    done = subprocess.run([prometheus_program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_committed_rules_are_what_the_code_generates() -> None:
    committed = {path.name: path.read_text("utf-8") for path in COMMITTED.iterdir()}
    assert committed == rule_files(RuleOptions()), "run: dbwatch rules --out grafana/prometheus/rules"


def test_promtool_finds_nothing_to_say_about_the_rules() -> None:
    _promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(COMMITTED.iterdir()))


def test_promtool_accepts_the_rules_of_other_surroundings(tmp_path: Path) -> None:
    options = RuleOptions(
        Thresholds(slo_seconds=1.0, slo_target=0.99, exhaustion_seconds=600),
        selector='env="prod",pool!~"listener|cron"',
        jobs=("api", "worker"),
        group_by=("cluster", "namespace"),
    )
    for name, text in rule_files(options).items():
        (tmp_path / name).write_text(text)
    _promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(tmp_path.iterdir()))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_promtool_finds_every_alert_firing_and_silent_where_it_should(case: Path) -> None:
    _promtool("test", "rules", case)


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for case in CASES:
        for test in yaml.safe_load(case.read_text("utf-8"))["tests"]:
            for check in test.get("alert_rule_test", ()):
                (fires if check["exp_alerts"] else silent).add(check["alertname"])
    assert fires == set(ALERTS)
    assert silent == set(ALERTS)


@EVERY_ALERT
def test_an_alert_says_what_is_wrong_where_and_what_to_do(alert: dict[str, Any]) -> None:
    name, notes = alert["alert"], alert["annotations"]
    assert re.fullmatch(r"DB(Pool|Watch)[A-Z][A-Za-z]+", name)
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert notes["summary"].endswith(".")
    assert "{{" not in notes["summary"], "the summary groups alerts, so it has no values"
    assert "$value" in notes["description"] or "$labels" in notes["description"]
    assert notes["runbook_url"].endswith(f"/docs/runbooks/{name}.md")
    assert (RUNBOOKS / f"{name}.md").is_file()
    assert re.match(r"http://localhost:3000/d/dbwatch-(overview|pool|routes)\b", notes["dashboard_url"])


@EVERY_ALERT
def test_paging_alerts_ask_for_pool_level_series_only(alert: dict[str, Any]) -> None:
    if alert["labels"]["severity"] != "critical":
        return
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    pending, seen = [alert["expr"]], set()
    while pending:
        for series in asked(Expression(alert["alert"], pending.pop())).series:
            if series in recorded:
                pending.append(recorded[series])
            else:
                seen.add(metric_of(series).name)
    assert seen
    for name in seen:
        assert "route" not in METRICS[name].labels, "a route's series is born at its first event"


@pytest.mark.parametrize(
    ("threshold", "value", "message"),
    [
        ("slo_seconds", 0.2, r"slo_seconds is 0\.2 and must be a bound of the histogram: 0\.0005, "),
        ("slo_target", 1.0, "slo_target is 1 and must be between 0 and 1"),
        ("leaked_share", 50, "leaked_share is 50 and must be between 0 and 1"),
        ("held_seconds", -1, "held_seconds is -1 and must be not negative"),
    ],
)
def test_a_threshold_that_cannot_work_is_refused(threshold: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Thresholds(**{threshold: value})


@pytest.mark.parametrize("name", [each.name for each in Thresholds.__dataclass_fields__.values()])
def test_every_threshold_changes_some_rule(name: str) -> None:
    value = 0.25 if name.endswith("_share") or name == "slo_target" else 2.5
    assert rule_files(RuleOptions(Thresholds(**{name: value}))) != rule_files(RuleOptions())


def test_a_selector_reaches_every_series_of_dbwatch() -> None:
    for rule in rules(RuleOptions(selector='env="prod"')):
        for series, matchers in asked(Expression(rule.get("alert") or rule["record"], rule["expr"])).matched:
            if series.startswith("dbwatch_"):
                assert ("env", "prod") in {(name, value) for name, _, value in matchers}, f"{series} in {rule}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selector": "env=prod"}, "selector is env=prod and must be matchers like"),
        ({"jobs": ('a"b',)}, "must be a name without quotes"),
        ({"group_by": ("name space",)}, "must be a label name"),
    ],
)
def test_surroundings_that_would_break_the_rules_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RuleOptions(**options)
