"""Links between Markdown files lead to files, and the site's hook changes them to the places of the pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ddb_lake.docs.hooks import links_in_site
from ddb_lake.docs.reference import PAGES
from ddb_lake_tests.support.docs_blocks import DECISIONS, DOCS, ROOT

SITE_ONLY = {"index.md"}
"""Pages that only the site shows: they may link to pages that are generated for it."""


def pages() -> list[Path]:
    found = [path for folder in ("ddb_lake", "dbt_project") for path in sorted((ROOT / folder).rglob("*.md"))]
    return [ROOT / "README.md", *found]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = set(re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text))
    generated = set(PAGES) if page.parent == DOCS and page.name in SITE_ONLY else set()
    assert {link for link in links - generated if not (page.parent / link).exists()} == set()


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
