"""No expression asks for what the catalogue does not have, and no metric of the catalogue is left out."""

import re

import pytest

from dbwatch.catalog import METRICS
from dbwatch.outputs.grafana.promql import Selectors, metric_of
from tests.grafana.expressions import (
    Expression,
    asked,
    dashboard_expressions,
    every_expression,
    rule_expressions,
    rules,
)

TARGET = {"job", "instance"}
#: What others export: Prometheus itself and postgres_exporter, with the labels the expressions use.
FOREIGN = {
    "up": TARGET,
    "ALERTS": {"alertname", "alertstate", "severity", "job", "instance", "pool"},
    "pg_settings_max_connections": {"server"},
    "pg_settings_superuser_reserved_connections": {"server"},
}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
#: The dashboards must work where the rules are not loaded.
IN_DASHBOARDS = list(dashboard_expressions())


def _labels(series: str) -> set[str]:
    if series in FOREIGN:
        return FOREIGN[series]
    if series in RECORDED:
        return {"job", "instance", "pool"}
    metric = metric_of(series)
    return TARGET | set(metric.labels) | ({"le"} if series.endswith("_bucket") else set())


@pytest.mark.parametrize("expression", every_expression(), ids=lambda expression: expression.where)
def test_an_expression_asks_only_for_series_labels_and_values_that_exist(expression: Expression) -> None:
    found = asked(expression)
    assert found.matched
    for series, matchers in found.matched:
        labels = _labels(series)
        for label, operator, value in matchers:
            assert label in labels, f"{series} has no label {label}"
            metric = METRICS.get(series)
            closed = metric.values if metric is not None and metric.labels and label == metric.labels[-1] else ()
            if closed and value != ".+":
                assert set(value.split("|")) <= set(closed), f"{series}: {label}{operator}{value}"
    everywhere = set().union(*(_labels(series) for series in found.series))
    assert found.labels <= everywhere, f"{found.labels - everywhere} are labels of none of {found.series}"


def test_every_metric_of_the_catalogue_is_on_some_panel() -> None:
    shown = set()
    for expression in IN_DASHBOARDS:
        if expression.panel:
            shown |= {metric_of(series).name for series in asked(expression).series if series not in FOREIGN}
    assert shown == set(METRICS)


def test_the_dashboards_need_no_recording_rule() -> None:
    for expression in IN_DASHBOARDS:
        assert not asked(expression).series & RECORDED, expression.where


def test_rates_on_dashboards_take_grafanas_own_interval() -> None:
    for expression in IN_DASHBOARDS:
        windows = re.findall(r"(?:rate|increase)\(.*?\[(.*?)\]", expression.text)
        assert set(windows) <= {"$__rate_interval", "$__range"}, expression.where


def test_nothing_is_averaged_over_instances() -> None:
    for expression in [*IN_DASHBOARDS, *rule_expressions()]:
        assert not re.search(r"\bavg\b", expression.text), expression.where


def test_quantiles_are_those_of_sums_of_buckets_not_sums_of_quantiles() -> None:
    for expression in [*IN_DASHBOARDS, *rule_expressions()]:
        assert not re.search(r"sum[^(]*\(\s*\(?histogram_quantile", expression.text), expression.where


@pytest.mark.parametrize(
    ("series", "labels"),
    [
        ("dbwatch_pool_sizes", {}),
        ("dbwatch_hold_seconds", {}),
        ("dbwatch_pool_size_bucket", {}),
        ("dbwatch_pool_size", {"route": "/"}),
        ("dbwatch_hold_seconds_sum", {"le": "0.1"}),
    ],
)
def test_a_selector_of_something_that_does_not_exist_cannot_be_built(series: str, labels: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        Selectors()(series, **labels)


@pytest.mark.parametrize(
    ("series", "labels"),
    [
        ("dbwatch_pool_connections", {"state": "busy"}),
        ("dbwatch_checkout_seconds_bucket", {"le": "0.2"}),
    ],
)
def test_a_selector_of_a_value_that_does_not_exist_cannot_be_built(series: str, labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is one of"):
        Selectors()(series, **labels)


def test_a_selector_takes_the_matchers_whose_label_the_metric_has() -> None:
    selectors = Selectors(('job="a"', 'pool="p"', 'route="r"'), always='env="prod"')
    assert selectors("dbwatch_pool_size") == 'dbwatch_pool_size{env="prod",job="a",pool="p"}'
    assert selectors("dbwatch_route_connections") == 'dbwatch_route_connections{env="prod",job="a",route="r"}'
    assert Selectors()("dbwatch_build_info") == "dbwatch_build_info"
