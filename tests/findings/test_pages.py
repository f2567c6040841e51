"""The pages of the findings: one each, with code that runs in these tests, and the command that says the essentials."""

import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dbwatch.catalog import FINDINGS
from dbwatch.catalog.findings import PAGES
from tests.documents.pages import blocks_of
from tests.findings.apps import risky_configuration
from tests.findings.conftest import StageApp
from tests.servers.databases import SYNC

DIRECTORY = Path(__file__).parents[2] / "docs" / "findings"
SECTIONS = ["Symptom", "Faulty code", "Corrected code", "How dbwatch proves it", "What it cannot see"]


def sections(name: str) -> dict[str, str]:
    """A page's text by its headings; the text before the first one under the page's title."""
    parts = re.split(r"^#+ (.+)$", (DIRECTORY / f"{name}.md").read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def code(text: str) -> list[str]:
    """The Python blocks of a text, without blank lines."""
    return [without_blanks(block) for block in blocks_of(text, "python")]


def without_blanks(source: str) -> str:
    """Code whose spacing does not matter."""
    return "".join(line for line in source.splitlines(keepends=True) if line.strip())


def body(name: str, kind: str) -> str:
    """What the builder of an app does, as the code of a module."""
    module = importlib.import_module(f"tests.findings.apps.{name}")
    lines, _ = inspect.getsourcelines(getattr(module, f"{kind}_sync"))
    return without_blanks(textwrap.dedent("".join(lines[1:])))


def test_every_finding_has_a_page_and_every_page_a_finding() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.md")} == set(FINDINGS)
    assert {kind.page for kind in FINDINGS.values()} == {f"{PAGES}/{name}.md" for name in FINDINGS}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_page_says_symptom_code_proof_and_limits(name: str) -> None:
    page = sections(name)
    assert list(page) == [name, *SECTIONS]
    assert all(text.strip() for text in page.values())
    proof = " ".join(page["How dbwatch proves it"].split())
    assert proof.startswith(FINDINGS[name].proof)
    assert " ".join(page[name].split()) == f"{FINDINGS[name].title}. {FINDINGS[name].cause}"


@pytest.mark.parametrize("name", FINDINGS)
def test_the_code_on_a_page_is_that_of_the_app_in_which_the_finding_appears_or_not(name: str) -> None:
    # test_every_mistake runs both apps, and compares what is found with the line that is marked.
    page = sections(name)
    (faulty,) = code(page["Faulty code"])
    (corrected,) = code(page["Corrected code"])
    assert faulty in body(name, "faulty")
    assert corrected in body(name, "corrected")
    assert faulty.count("# guilty") == body(name, "faulty").count("# guilty") == 1
    assert "# guilty" not in corrected


@pytest.mark.parametrize("database", SYNC)
@pytest.mark.parametrize("build", [risky_configuration.faulty_sync, risky_configuration.corrected_sync])
def test_the_code_about_settings_runs(build: object, database: str, stage: StageApp) -> None:
    assert callable(build)
    with stage(database, build) as visitor:
        assert visitor.get("/health-of-the-database").json() == "fine"


def dbwatch_explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "dbwatch.cli", "explain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_explain_lists_all_findings() -> None:
    done = dbwatch_explain()
    assert done.returncode == 0, done.stderr
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert listed == {name: kind.title for name, kind in FINDINGS.items()}


@pytest.mark.parametrize("name", ["lost_write", "checkout_timeout"])
def test_explain_says_cause_fix_proof_and_where_the_page_is(name: str) -> None:
    done = dbwatch_explain(name)
    assert done.returncode == 0, done.stderr
    kind = FINDINGS[name]
    told = " ".join(done.stdout.split())
    assert told == f"{name}: {kind.title} Cause {kind.cause} Fix {kind.fix} Proof {kind.proof} Page {kind.page}"
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_explain_answers_an_unknown_name_with_one_sentence_that_has_all_names() -> None:
    done = dbwatch_explain("lost_wright")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"Error: there is no finding 'lost_wright'; the findings are {', '.join(FINDINGS)}.\n"
