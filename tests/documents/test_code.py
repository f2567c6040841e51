"""The Python on the pages runs. The blocks of a page run one after the other in one process, as a reader meets them."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.documents.pages import PAGES, ROOT, blocks

#: Pages whose code belongs together as files or apps, and where it is run instead.
ELSEWHERE = {
    "docs/opentelemetry.md": "tests/documents/test_opentelemetry_page.py",
    "docs/pytest.md": "tests/pytest_plugin/test_page.py",
    "docs/recipes/workers.md": "tests/documents/test_workers_recipe.py",
    "docs/start.md": "tests/documents/test_start.py",
    **{page: "tests/findings/test_pages.py" for page in PAGES if page.startswith("docs/findings/")},
}
PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


def code(page: str) -> str:
    """The Python of a page as one module."""
    return "\n".join(block.text for block in blocks(page) if block.language == "python")


def run(program: str, directory: Path, **environment: str) -> str:
    """Run a program in a directory of its own, with warnings as errors; returns what it has printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_not_run_here_is_run_where_it_is_said_to_be() -> None:
    assert set(ELSEWHERE) <= set(PYTHON)
    for page, test in ELSEWHERE.items():
        assert page.removeprefix("docs/").partition("/")[0] in (ROOT / test).read_text("utf-8"), test


#: What the visits below use.
VISIT = """
import dbwatch
from starlette.testclient import TestClient

def visit(app, method, path, route, **arguments):
    with TestClient(app) as client:
        answer = client.request(method, path, **arguments)
        assert answer.status_code == 200, (path, answer.text)
        series = f'dbwatch_request_checkouts_total{{method="{method}",route="{route}"}}'
        metrics = client.get("/metrics").text
        assert series in metrics, (series, metrics)
    dbwatch.settle(5)
    assert dbwatch.findings() == (), dbwatch.findings()
    return answer
"""
#: Pages with an app, and what follows their code: the app does what the page says, and nothing is found in it.
VISITS = {
    "README.md": """
    with TestClient(app) as client:
        assert "dbwatch_build_info" in client.get("/metrics").text
    """,
    "docs/recipes/fastapi.md": """
    assert visit(app, "GET", "/orders/7", "/orders/{number}").json() == "paid"
    assert visit(app, "GET", "/reports/2026", "/reports/{year}").json() == 2026
    assert visit(app, "POST", "/orders/7/receipts", "/orders/{number}/receipts").json() == "on its way"
    assert visit(app, "GET", "/debug/orders", "/debug/orders").json().startswith("1 statement, waited 0.000 s")
    assert {pool.name for pool in dbwatch.snapshot()} == {"primary", "reports"}
    """,
    "docs/recipes/starlette.md": """
    assert visit(app, "GET", "/v1/orders/7", "/v1/orders/{number:int}").text == "paid"
    assert TestClient(wrapped).get("/anything").status_code == 204
    """,
    "docs/recipes/sqlmodel.md": """
    assert visit(app, "POST", "/orders", "/orders", json={"state": "paid"}).json() == {"number": 1, "state": "paid"}
    assert visit(app, "GET", "/orders", "/orders").json() == [{"number": 1, "state": "paid"}]
    """,
}


@pytest.mark.parametrize("page", [page for page in PYTHON if page not in ELSEWHERE])
def test_the_python_of_a_page_runs_without_a_warning(page: str, tmp_path: Path) -> None:
    visits = VISIT + textwrap.dedent(VISITS[page]) if page in VISITS else ""
    run(code(page) + visits, tmp_path)


def test_every_language_of_the_pages_is_one_that_a_test_reads() -> None:
    known = {
        "python": "here",
        "sh": "test_shell.py",
        "yaml": "test_kubernetes.py",
        "promql": "tests/grafana/test_expressions.py",
        "toml": "tests/pytest_plugin/test_page.py",
        "text": "what is printed",
        "": "what is printed",
        "{toctree}": "the site",
        "{include}": "the site",
    }
    unknown = [block for page in PAGES for block in blocks(page) if block.language.partition(" ")[0] not in known]
    assert unknown == []
