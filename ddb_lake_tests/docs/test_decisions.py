"""Decisions have one form, and the index lists them and the numbers of merged ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ddb_lake_tests.support.docs_blocks import DECISIONS

FILES = sorted(DECISIONS.glob("[0-9]*.md"))
INDEX = (DECISIONS / "README.md").read_text(encoding="utf-8")


def sections(text: str) -> list[str]:
    """The parts of a file below its headings of the second rank, or the whole file if it has none."""
    parts = re.split(r"^## .*$", text, flags=re.MULTILINE)
    return parts[1:] or parts


def test_index_lists_every_file_once() -> None:
    assert re.findall(r"^\| \[\d{4}\]\((.*?)\)", INDEX, re.MULTILINE) == [path.name for path in FILES]


def test_former_numbers_lead_to_the_file_that_includes_them() -> None:
    listed = dict(re.findall(r"^\| (\d{4}) \| \[\d{4}\]\((.*?)\)", INDEX, re.MULTILINE))
    included = {}
    for path in FILES:
        named = re.search(r"Includes the\s+former\s+decisions?\s+([\d,\sand]+)\.", path.read_text(encoding="utf-8"))
        included |= dict.fromkeys(re.findall(r"\d{4}", named[1]) if named else [], path.name)
    assert listed == included


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_decision_has_the_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(rf"# {path.name[:4]}: .+\n\nDate: .*\d{{4}}-\d\d-\d\d.*\. Status: accepted", text)
    assert [part[:80] for part in sections(text) if "**Choice" not in part or "**Motivation.**" not in part] == []
