"""ARCHITECTURE.md names modules, functions and files that exist, and its glossary is in alphabetical order."""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from ddb_lake_tests.support.docs_blocks import DOCS, ROOT

PAGE = ROOT / "ddb_lake" / "ARCHITECTURE.md"
TEXT = PAGE.read_text(encoding="utf-8")

PACKAGES = {path.name for path in (ROOT / "ddb_lake").iterdir() if path.is_dir()} | {"errors", "api"}
SYMBOLS = sorted(
    {name for name in re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`", TEXT) if name.partition(".")[0] in PACKAGES}
)
"""Dotted names below `ddb_lake` in the page."""


def resolve(name: str) -> object:
    """Return the module, or the attribute of a module, that a dotted name below `ddb_lake` names."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(["ddb_lake", *parts[:length]])
        try:
            known = find_spec(module) is not None
        except ModuleNotFoundError:
            continue
        if known:
            found: object = importlib.import_module(module)
            for attribute in parts[length:]:
                found = getattr(found, attribute)
            return found
    raise AttributeError(name)


def test_symbols_are_found_in_the_page() -> None:
    assert len(SYMBOLS) > 40


@pytest.mark.parametrize("name", SYMBOLS)
def test_symbol_exists(name: str) -> None:
    assert resolve(name) is not None


def test_every_package_is_described() -> None:
    packages = {path.parent.name for path in (ROOT / "ddb_lake").glob("*/__init__.py")} - {"defs", "docs"}
    assert {name for name in packages if f"| `{name}` |" not in TEXT} == set()


def test_every_package_of_the_pipeline_is_described() -> None:
    packages = {path.parent.name for path in (ROOT / "ddb_lake/pipeline").glob("*/__init__.py")}
    assert {name for name in packages if f"| `pipeline.{name}` |" not in TEXT} == set()


def test_links_and_test_files_exist() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", TEXT)
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_glossary_is_in_alphabetical_order_and_defines_each_term_once() -> None:
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", TEXT, re.MULTILINE)
    assert len(terms) >= 30
    assert terms == sorted(set(terms))


def pages_with_paths() -> list[Path]:
    return [ROOT / "README.md", PAGE, *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "ddb_lake/decisions").glob("*.md"))]


@pytest.mark.parametrize("page", pages_with_paths(), ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page: Path) -> None:
    """A path of a Python or Markdown file in backticks exists below the repository, the product or the tests."""
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|md))(?:::\w+)?`", page.read_text(encoding="utf-8")))
    roots = (ROOT, ROOT / "ddb_lake", ROOT / "ddb_lake_tests")
    assert {name for name in named if not any((root / name).exists() for root in roots)} == set()
