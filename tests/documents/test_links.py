"""Links of the pages lead to files and headings of the repository."""

import re
from pathlib import Path

import pytest

from tests.documents.pages import PAGES, ROOT, prose

REPOSITORY = "https://github.com/dbwatch/dbwatch/blob/main/"
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")


def links(page: str) -> list[str]:
    """Where a page leads within the repository; pictures count as well."""
    found: list[str] = _LINK.findall(prose(page))
    return [link for link in found if link.startswith(REPOSITORY) or not re.match(r"\w+:", link)]


def slugs(text: str) -> set[str]:
    """The fragments of the headings, as GitHub and the site make them."""
    headings = re.findall(
        r"^#{1,6} (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problem(page: str, link: str) -> str | None:
    """What is wrong with a link, None if nothing is."""
    target, _, fragment = link.partition("#")
    base = ROOT if target.startswith(REPOSITORY) else (ROOT / page).parent
    path = (base / target.removeprefix(REPOSITORY)).resolve() if target else ROOT / page
    if not path.exists():
        return f"{link}: there is no {path}"
    if fragment and fragment not in slugs(path.read_text("utf-8")):
        return f"{link}: {path.name} has no such heading"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_to_files_and_headings_that_exist(page: str) -> None:
    assert [said for link in links(page) if (said := problem(page, link))] == []


def test_the_pages_link_to_each_other() -> None:
    assert sum(len(links(page)) for page in PAGES) > 100


@pytest.mark.parametrize("link", ["gone.md", "start.md#gone", "../gone", f"{REPOSITORY}gone.md", "#gone"])
def test_a_link_that_leads_nowhere_is_noticed(link: str) -> None:
    assert problem("docs/index.md", link)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_pages_of_the_site_link_to_pages_of_the_site(page: str) -> None:
    # A relative link out of docs/ works on GitHub but not on the site; there the full address is used.
    outside = [link for link in links(page) if not link.startswith(REPOSITORY) and _leaves_docs(page, link)]
    assert outside == []


def _leaves_docs(page: str, link: str) -> bool:
    target = ((ROOT / page).parent / link.partition("#")[0]).resolve()
    return not target.is_relative_to(Path(ROOT / "docs"))
