"""Showing scenarios: begun by name, switched on the guide's page while all runs, refused where they cannot be shown."""

import re
from pathlib import Path

import httpx
import psutil
import pytest
from click.testing import CliRunner

from demo_app.command import main
from demo_app.guide import Act, Guide
from demo_app.processes import DemoError
from demo_app.scenarios import SCENARIOS
from demo_app.settings import Settings
from demo_app.show import check_scenario
from tests.demo.conftest import client, runs
from tests.demo.test_command import refused, shop_url, start
from tests.servers.ports import free_port
from tests.servers.waiting import eventually


def test_a_mistake_is_shown_and_exchanged_for_its_correction_while_all_runs(temporary: Path, tmp_path: Path) -> None:
    demo = start(temporary, tmp_path / "log", "--scenario=missing-commit")
    url = shop_url(demo)
    assert "look at   nothing looks wrong, only the rows are not there" in demo.output
    found = re.search(r"^Guide +(http://\S+)", demo.output, re.MULTILINE)
    assert found, demo.output
    with client(url) as shop, client(found[1]) as guide:
        eventually(lambda: _findings(shop) >= {"lost_write"}, timeout=60)
        assert "Now showing <b>missing-commit, broken</b>" in guide.get("/").text
        assert "# dbwatch names this line" in guide.get("/").text
        answer = guide.post("/show", params={"scenario": "no-pre-ping", "variant": "fixed"})
        assert answer.status_code == 303
        eventually(lambda: "Now showing <b>no-pre-ping, fixed</b>" in guide.get("/").text, timeout=60)
        demo.wait_until(lambda: "The database restarts." in demo.output)
        eventually(lambda: shop.get("/products/1").status_code == 200)
        assert guide.post("/show").status_code == 303
        eventually(lambda: "Now showing <b>the shop</b>" in guide.get("/").text, timeout=60)
        assert shop.get("/sync/products/1").status_code == 200
    programs = psutil.Process(demo.pid).children(recursive=True)
    demo.stop()
    eventually(lambda: not any(map(runs, programs)))
    assert not list(temporary.iterdir())


def _findings(shop: httpx.Client) -> set[str]:
    return {finding["finding"] for finding in shop.get("/dbwatch/api/state").json()["findings"]}


def test_all_scenarios_are_listed() -> None:
    listed = CliRunner().invoke(main, ["--list"]).output
    assert [line.split()[0] for line in listed.splitlines()] == list(SCENARIOS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scenario=leak"], "There is no scenario 'leak'; `python -m demo_app --list` shows all."),
        (
            ["--scenario=no-pre-ping", "--database-url=postgresql+psycopg://127.0.0.1:1/shop"],
            "--scenario no-pre-ping restarts the database, which only the embedded one allows; leave DATABASE_URL out.",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(temporary: Path, options: list[str], message: str) -> None:
    # An empty variable is as good as none, in case the tests themselves run with a database of somebody's.
    assert refused(temporary, "--port=0", *options, DATABASE_URL="") == message


def test_a_scenario_is_not_shown_on_another_database_or_with_the_report_of_the_shop() -> None:
    scenario = SCENARIOS["n-plus-one"]
    sqlite = Settings.load(database_url="sqlite:///shop.db")
    with pytest.raises(DemoError, match="n-plus-one needs PostgreSQL; leave DATABASE_URL out for the embedded one"):
        check_scenario(scenario, embedded=False, settings=sqlite, report=None)
    postgresql = Settings.load(database_url="postgresql+psycopg://127.0.0.1:1/shop")
    with pytest.raises(DemoError, match="leave out --scenario or --report"):
        check_scenario(scenario, embedded=True, settings=postgresql, report=Path("report.json"))
    check_scenario(scenario, embedded=False, settings=postgresql, report=None)


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, {"scenario": "leak"}, 404),
        ({}, {"scenario": "n-plus-one", "variant": "better"}, 404),
        ({}, {"scenario": "no-pre-ping"}, 409),
        ({"Origin": "http://elsewhere.example"}, {"scenario": "n-plus-one"}, 403),
        ({"Host": "elsewhere.example"}, {"scenario": "n-plus-one"}, 400),
    ],
)
def test_the_guide_switches_to_nothing_that_is_wrong(
    headers: dict[str, str], query: dict[str, str], status: int
) -> None:
    port = free_port()
    with Guide(port, "http://127.0.0.1:1", {"no-pre-ping": "Not here."}) as guide, client(guide.url) as visitor:
        guide.playing(Act())
        eventually(lambda: _answers(visitor))
        assert "Not here." in visitor.get("/").text
        assert visitor.post("/show", params=query, headers=headers).status_code == status
        assert guide.wanted() is None


def _answers(visitor: httpx.Client) -> bool:
    try:
        return visitor.get("/").status_code == 200
    except httpx.TransportError:
        return False
