"""Every input has a test that names it."""

from __future__ import annotations

from pathlib import Path

from ddb_lake_tests.support.cases import INPUTS


def test_every_input_is_named_by_a_test() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    unnamed = sorted(folder.name for folder in INPUTS.iterdir() if f'"{folder.name}"' not in sources)
    assert unnamed == []
