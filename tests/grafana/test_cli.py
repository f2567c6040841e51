"""The command line, run as its users run it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dbwatch.outputs.grafana.dashboards import dashboard_files
from dbwatch.outputs.grafana.frame import DashboardOptions
from dbwatch.outputs.grafana.rules import rule_files
from dbwatch.outputs.grafana.thresholds import RuleOptions
from dbwatch.version import __version__


def _dbwatch(*arguments: str | Path, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command; ``without`` makes a library look as if it were not installed."""
    hide = f"import sys; sys.modules[{without!r}] = None; " if without else ""
    code = f"{hide}from dbwatch.cli import main; main()"
    # None in sys.modules makes an import raise ModuleNotFoundError, as a missing library does.
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def _written(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in directory.iterdir()}


def test_the_version_is_that_of_the_package() -> None:
    assert _dbwatch("--version").stdout == f"dbwatch {__version__}\n"


def test_dashboards_are_written_into_a_new_directory(tmp_path: Path) -> None:
    out = tmp_path / "some" / "where"
    done = _dbwatch("dashboards", "--out", out, "--datasource-uid", "mimir")
    assert done.returncode == 0, done.stderr
    assert _written(out) == dashboard_files(DashboardOptions(datasource_uid="mimir"))
    assert sorted(done.stdout.splitlines()) == sorted(str(path) for path in out.iterdir())


def test_rules_are_written_with_the_thresholds_given(tmp_path: Path) -> None:
    done = _dbwatch("rules", "--out", tmp_path, "--held-seconds", "300", "--job", "api", "--group-by", "cluster")
    assert done.returncode == 0, done.stderr
    text = _written(tmp_path)["dbwatch-alerts.yml"]
    alerts = {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}
    assert alerts["DBPoolConnectionHeldTooLong"]["expr"] == "dbwatch_pool_oldest_checkout_seconds > 300"
    assert 'absent(dbwatch_build_info{job="api"})' in alerts["DBWatchAbsent"]["expr"]


def test_without_options_the_rules_are_the_committed_ones(tmp_path: Path) -> None:
    assert _dbwatch("rules", "--out", tmp_path).returncode == 0
    assert _written(tmp_path) == rule_files(RuleOptions())


def test_links_lead_where_the_options_say(tmp_path: Path) -> None:
    _dbwatch("rules", "--out", tmp_path, "--runbooks-url", "https://wiki/db/", "--grafana-url", "https://grafana/")
    text = _written(tmp_path)["dbwatch-alerts.yml"]
    assert '"https://wiki/db/DBPoolExhausted.md"' in text
    assert re.search(r'"https://grafana/d/dbwatch-pool\?var-job=', text)
    _dbwatch("dashboards", "--out", tmp_path, "--runbooks-url", "https://wiki/db")
    dashboard = json.loads((tmp_path / "dbwatch-overview.json").read_text("utf-8"))
    assert dashboard["links"][1]["url"] == "https://wiki/db"


def test_a_threshold_that_cannot_work_is_one_sentence_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = _dbwatch("rules", "--out", out, "--slo-seconds", "0.3")
    assert done.returncode == 2
    assert "slo_seconds is 0.3 and must be a bound of the histogram" in done.stderr
    assert not out.exists()


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = _dbwatch("dashboards", "--out", tmp_path / "file" / "below")
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot write {tmp_path / 'file' / 'below'}: Not a directory\n"


def test_an_unknown_command_is_refused_with_a_pointer_to_the_help() -> None:
    done = _dbwatch("dashboard")
    assert done.returncode == 2
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "arguments", "sentence"),
    [
        ("click", ["--version"], "The dbwatch command needs click: pip install 'dbwatch[cli]'\n"),
        (
            "grafana_foundation_sdk",
            ["dashboards", "--out", "nowhere"],
            "Error: this command needs grafana_foundation_sdk: pip install 'dbwatch[grafana]'\n",
        ),
    ],
)
def test_a_missing_library_is_one_sentence_with_the_line_that_installs_it(
    missing: str, arguments: list[str], sentence: str
) -> None:
    done = _dbwatch(*arguments, without=missing)
    assert done.returncode == 1
    assert done.stderr == sentence
    assert not Path("nowhere").exists()
