"""The dashboards as Grafana will read them."""

import json
import re
from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dbwatch.outputs.grafana.dashboards import dashboard_files
from dbwatch.outputs.grafana.frame import DashboardOptions
from tests.grafana.expressions import ROOT, alerts, dashboards, panels

DASHBOARDS = dashboards()
EVERY = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


def _all_panels() -> list[Any]:
    return [
        pytest.param(panel, id=f"{uid}-{panel['title']}")
        for uid, board in DASHBOARDS.items()
        for panel in panels(board)
    ]


EVERY_PANEL = pytest.mark.parametrize("panel", _all_panels())


def test_there_are_three_dashboards_with_fixed_uids() -> None:
    assert set(DASHBOARDS) == {"dbwatch-overview", "dbwatch-pool", "dbwatch-routes"}


def _lost(before: Any, after: Any, path: str = "") -> list[str]:
    """Keys and values of ``before`` that ``after`` lacks; what ``after`` adds are defaults."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            lost
            for key, value in before.items()
            for lost in ([f"{path}.{key}"] if key not in after else _lost(value, after[key], f"{path}.{key}"))
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [lost for number, (old, new) in pairs for lost in _lost(old, new, f"{path}[{number}]")]
    return [] if before == after else [f"{path}: {before!r} became {after!r}"]


@EVERY
def test_a_dashboard_survives_the_round_trip_through_grafanas_own_types(dashboard: dict[str, Any]) -> None:
    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    assert _lost(dashboard, read) == []


def test_the_round_trip_finds_a_misspelt_key() -> None:
    register_default_plugins()
    dashboard = json.loads(json.dumps(DASHBOARDS["dbwatch-pool"]))
    dashboard["panels"][1]["fieldConfig"]["defaults"]["unitt"] = "s"
    read = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    assert _lost(dashboard, read) == [".panels[1].fieldConfig.defaults.unitt"]


@EVERY
def test_panel_ids_and_titles_are_unique(dashboard: dict[str, Any]) -> None:
    everything = [*dashboard["panels"], *(inner for row in dashboard["panels"] for inner in row.get("panels") or ())]
    ids = [panel["id"] for panel in everything]
    titles = [panel["title"] for panel in everything]
    assert len(ids) == len(set(ids))
    assert len(titles) == len(set(titles))


@EVERY
def test_panels_lie_on_the_grid_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}

    groups = [dashboard["panels"], *(row["panels"] for row in dashboard["panels"] if row.get("collapsed"))]
    for group in groups:
        for panel in group:
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for one, other in combinations(group, 2):
            assert not cells(one) & cells(other), f"{one['title']} and {other['title']}"


@EVERY_PANEL
def test_a_panel_has_a_unit_and_says_what_good_is_and_where_to_look_if_not(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert re.search(r"\bGood: ", panel["description"])
    assert re.search(r"\bIf\b", panel["description"]), "nowhere to look if not"


@EVERY_PANEL
def test_a_panel_asks_the_data_source_of_the_variable(panel: dict[str, Any]) -> None:
    for asks in (panel, *panel["targets"]):
        assert asks["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_that_descriptions_send_readers_to_exist() -> None:
    titles = {panel["title"] for board in DASHBOARDS.values() for panel in panels(board)}
    for board in DASHBOARDS.values():
        for panel in panels(board):
            # An apostrophe stands inside a word, a quoted title after a space or a bracket.
            for title in re.findall(r"(?<!\w)'([A-Z0-9][^']*)'", panel["description"]):
                assert title in titles, f"{panel['title']} points to {title}"


@EVERY
def test_a_dashboard_has_the_variables_annotations_and_links_of_all(dashboard: dict[str, Any]) -> None:
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert variables[:4] == ["datasource", "job", "instance", "pool"]
    assert variables[4:] == (["route"] if dashboard["uid"] == "dbwatch-routes" else [])
    for variable in dashboard["templating"]["list"][1:]:
        assert variable["multi"], variable["name"]
        assert variable["includeAll"], variable["name"]
        assert variable["allValue"] == ".+"
    assert [each["name"] for each in dashboard["annotations"]["list"]] == ["Process starts", "Firing alerts"]
    between, runbooks = dashboard["links"]
    assert between["tags"] == dashboard["tags"] == ["dbwatch"]
    assert between["includeVars"]
    assert between["keepTime"]
    assert runbooks["url"].endswith("/docs/runbooks")


def test_the_names_that_dashboards_look_for_are_those_of_the_alerts() -> None:
    pattern = re.search(r'ALERTS\{alertname=~"(.+?)"', json.dumps(DASHBOARDS["dbwatch-overview"]).replace('\\"', '"'))
    assert pattern
    for name in alerts():
        assert re.fullmatch(pattern[1], name), name


def test_a_data_source_can_be_chosen_beforehand() -> None:
    for text in dashboard_files(DashboardOptions(datasource_uid="mimir")).values():
        variable = json.loads(text)["templating"]["list"][0]
        assert variable["current"] == {"selected": True, "text": "mimir", "value": "mimir"}


def test_the_committed_dashboards_are_what_the_code_generates() -> None:
    committed = {path.name: path.read_text("utf-8") for path in (ROOT / "grafana" / "dashboards").iterdir()}
    assert committed == dashboard_files(DashboardOptions()), "run: dbwatch dashboards --out grafana/dashboards"
