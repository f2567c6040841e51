"""The README keeps its word: its code runs, its commands are what the gate calls, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(code: str, directory: Path, *flags: str) -> None:
    """Run Python code in a directory of its own and demand that it succeeds."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[0])
def test_every_python_block_of_the_readme_runs_without_a_warning(block: str, tmp_path: Path) -> None:
    run(block, tmp_path, "-W", "error")


def test_the_app_of_the_first_block_serves_the_metrics_it_promises(tmp_path: Path) -> None:
    visit = (
        "from fastapi.testclient import TestClient\n"
        "with TestClient(app) as client:\n"
        "    page = client.get('/metrics')\n"
        "assert page.status_code == 200 and 'dbwatch_build_info' in page.text, page.text\n"
    )
    run(f"{blocks('python')[0]}\n{visit}", tmp_path)


def test_the_gate_calls_the_test_command_of_the_readme() -> None:
    command = blocks("sh")[1].strip()
    assert command.endswith("-m pytest")
    assert command in (ROOT / ".ci" / "run").read_text()


def test_every_link_of_the_readme_leads_to_a_file_of_the_repository() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def test_the_readme_names_every_option_with_its_default() -> None:
    from dataclasses import fields

    from dbwatch.settings import Settings

    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", README, re.MULTILINE))
    assert set(rows) >= {field.name for field in fields(Settings)}


def test_the_readme_stays_under_250_lines() -> None:
    assert len(README.splitlines()) < 250
