"""The page about the plugin: its project, run as the page says, brings what the page shows."""

import re
from pathlib import Path

import pytest

from tests.pytest_plugin.conftest import Run, reports

PAGE = (Path(__file__).parents[2] / "docs" / "pytest.md").read_text("utf-8")
FILES = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def page_project(pytester: pytest.Pytester) -> None:
    """The files of the page."""
    for name, text in FILES.items():
        (pytester.path / name).write_text(f"# {name}\n{text}", "utf-8")


def test_every_code_block_of_the_page_is_a_file_of_its_project() -> None:
    assert len(FILES) == PAGE.count("```python") == 5


@pytest.mark.usefixtures("page_project")
def test_the_project_of_the_page_fails_as_the_page_shows(run: Run) -> None:
    result = run("--dbwatch", "-W", "ignore")
    told = reports(result)
    assert set(told) == {"test_read_order", "test_list_orders"}
    (shown,) = re.findall(r"^With it:\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in shown.splitlines():
        if line.strip() and not line.startswith("__") and line.strip() != "...":
            result.stdout.fnmatch_lines([line.replace("[", "[[]")])
    result.stdout.fnmatch_lines(["Not failed: leaked_connection, 1 times, because mended in the next release"])
    result.assert_outcomes(failed=2, passed=3)
