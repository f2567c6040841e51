"""The runbooks point to alerts, panels and pages that exist; their queries are checked with all other expressions."""

import re
from pathlib import Path

import pytest

from tests.grafana.expressions import ROOT, RUNBOOKS, alerts, dashboards, panels

ALERTS = alerts()
PAGES = {page.stem: page for page in RUNBOOKS.glob("*.md") if page.stem != "README"}
TITLES = {
    board["title"].removeprefix("dbwatch / "): {panel["title"] for panel in panels(board)}
    for board in dashboards().values()
}
SECTIONS = ["What it means", "What users feel", "Confirm in two minutes", "Do now", "Change after"]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert set(PAGES) == set(ALERTS)


@EVERY_PAGE
def test_a_runbook_answers_the_five_questions_in_order(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.startswith(f"# {page.stem}\n\n{ALERTS[page.stem]['labels']['severity'].capitalize()}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS


@EVERY_PAGE
def test_a_runbook_names_panels_and_a_query_to_confirm_with(page: Path) -> None:
    confirm = page.read_text("utf-8").partition("## Confirm in two minutes")[2].partition("## Do now")[0]
    assert re.search(r"\*\*\w+ \u203a ", confirm)
    assert "```promql\n" in confirm


@EVERY_PAGE
def test_panels_and_pages_that_a_runbook_names_exist(page: Path) -> None:
    text = re.sub(r"\s+", " ", page.read_text("utf-8"))
    for board, title in re.findall(r"\*\*(\w+) \u203a (.+?)\*\*", text):
        assert title in TITLES[board]
    for target in re.findall(r"\]\((\w+\.md)\)", text):
        assert (RUNBOOKS / target).is_file(), target


def test_the_index_lists_every_runbook_with_its_severity() -> None:
    index = (ROOT / "docs" / "runbooks" / "README.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", index, re.MULTILINE))
    assert listed == {name: alert["labels"]["severity"] for name, alert in ALERTS.items()}
