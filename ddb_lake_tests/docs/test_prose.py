"""The prose of pages, of code and of tests, and the names of tests, have none of the habits in `ddb_lake_tests.support.prose`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake_tests.support.docs_blocks import DECISIONS, DOCS, ROOT
from ddb_lake_tests.support.prose import find_habits, habits_in_file, names_of_tests, python_prose

PRODUCT = ROOT / "ddb_lake"
TESTS = ROOT / "ddb_lake_tests"

PAGES = [ROOT / "README.md", PRODUCT / "ARCHITECTURE.md", *sorted(DOCS.rglob("*.md")), *sorted(DECISIONS.glob("*.md"))]
PIPELINE = {f"pipeline/{path.parent.name}" for path in PRODUCT.glob("pipeline/*/__init__.py")}
PACKAGES = sorted(
    {path.name for path in PRODUCT.iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))} | PIPELINE
)


def texts(paths: list[Path]) -> list[str]:
    return [str(finding) for path in paths for finding in habits_in_file(path, ROOT)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_no_habit(page: Path) -> None:
    assert texts([page]) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_code_has_no_habit(package: str) -> None:
    place = PRODUCT / package
    modules = place.glob("*.py") if package == "pipeline" else place.rglob("*.py")
    assert texts([place] if place.is_file() else sorted(modules)) == []


def test_prose_of_tests_has_no_habit() -> None:
    about_habits = {"docs/test_prose.py", "support/prose.py"}
    assert (
        texts([path for path in sorted(TESTS.rglob("*.py")) if str(path.relative_to(TESTS)) not in about_habits]) == []
    )


def test_names_of_tests_have_no_habit() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}: '{finding.words}': {finding.advice}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for name in names_of_tests(path.read_text(encoding="utf-8"))
        for finding in find_habits(name.replace("_", " "), path.name)
    ]
    assert found == []


def test_name_of_a_test_with_a_habit_is_found() -> None:
    (name,) = names_of_tests("def helper_told(): ...\n\n\nclass X:\n    def test_fault_is_told(self): ...\n")
    assert [found.words for found in find_habits(name.replace("_", " "), "page")] == ["told"]


def test_habits_are_found_outside_code_only() -> None:
    text = "It rests on nothing.\n\n```sh\nnobody\n```\n\nThe name `said` is code, [this](told.md) a link.\n"
    assert [(found.line, found.words) for found in find_habits(text, "page")] == [(1, "rests on")]


def test_words_that_contain_a_habit_are_not_habits() -> None:
    assert list(find_habits("commend, a well-told story, graveyard, HORIZON_MS", "page")) == []


def test_prose_of_python_is_comments_docstrings_and_messages() -> None:
    source = '"""Module text here."""\n\nX = "two words"  # a comment\nY = "SELECT a FROM b"\nZ = "not a query but a message"\n'
    assert sorted(python_prose(source)) == [
        (1, "Module text here."),
        (3, "# a comment"),
        (5, "not a query but a message"),
    ]
