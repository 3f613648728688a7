"""Links between Markdown files lead to files, and the site's hook changes them to the places of the pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ddb_lake.docs.hooks import links_in_site, overview
from ddb_lake.docs.reference import PAGES
from ddb_lake_tests.support.docs_blocks import DECISIONS, DOCS, ROOT


def pages() -> list[Path]:
    found = [path for folder in ("ddb_lake", "dbt_project") for path in sorted((ROOT / folder).rglob("*.md"))]
    return [ROOT / "README.md", *found]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = _prose(page)
    links = set(re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text))
    assert {link for link in links if not (page.parent / link).exists()} == set()


def test_links_of_the_site_lead_to_its_pages() -> None:
    elsewhere = [ROOT / "ddb_lake/ARCHITECTURE.md", *DECISIONS.glob("*.md")]
    lost = [
        (str(page.relative_to(ROOT)), link)
        for page in [*DOCS.rglob("*.md"), *elsewhere]
        for link in re.findall(r"\]\((?!https?://)([^)#\s]+\.md)", _prose(page))
        if not is_in_site((page.parent / link).resolve(), elsewhere)
    ]
    assert lost == []
    assert not is_in_site(ROOT / "README.md", elsewhere)


def is_in_site(page: Path, elsewhere: Sequence[Path]) -> bool:
    """Whether the site has a page of the repository."""
    return page.is_relative_to(DOCS) or page in elsewhere


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_lead_to_headings_in_the_repository(page: Path) -> None:
    text = _prose(page)
    links = set(re.findall(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)", text))
    missing = {
        (link, anchor)
        for link, anchor in links
        if anchor not in anchors((page.parent / link if link else page).read_text(encoding="utf-8"))
    }
    assert missing == set()


def anchors(text: str) -> set[str]:
    """The anchors of headings as a repository's pages on the web have them: lower case, without punctuation, with hyphens for spaces."""
    headings = re.findall(r"^#{1,6} (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def test_overview_of_the_reference_links_every_generated_page() -> None:
    assert all(f"({path})" in overview() for path in PAGES)


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("contributing.md", "../ARCHITECTURE.md#glossary", "explanation/architecture.md#glossary"),
        ("explanation/types.md", "../../decisions/0047-names.md", "../decisions/0047-names.md"),
        ("explanation/architecture.md", "docs/explanation/state.md", "state.md"),
        ("decisions/README.md", "../docs/changelog.md", "../changelog.md"),
        ("tutorial.md", "guides/verify.md", "guides/verify.md"),
        ("tutorial.md", "https://example.org/a.md", "https://example.org/a.md"),
    ],
)
def test_links_are_changed_to_places_in_the_site(page: str, link: str, expected: str) -> None:
    places = {path: path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    places |= {path: f"decisions/{path.name}" for path in DECISIONS.glob("*.md")}
    places[ROOT / "ddb_lake/ARCHITECTURE.md"] = "explanation/architecture.md"
    (source,) = (path for path, place in places.items() if place == page)
    assert links_in_site(f"See [it]({link}).", source, places) == f"See [it]({expected})."
