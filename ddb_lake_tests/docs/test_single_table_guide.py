"""The guide of single-table designs, run as it is written: each command, and the output that it shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.command_line import run as run
from ddb_lake_tests.support.docs_blocks import DOCS, blocks
from ddb_lake_tests.support.entity_histories import item
from ddb_lake_tests.support.export_files import full

PAGE = "guides/single-table.md"
ITEMS = [
    item("USER#ann", "PROFILE", created=1714000000, email="ann@example.org"),
    item("USER#bob", "PROFILE", created=1715000000, email="bob@example.org"),
    item("USER#ann", "ORDER#7", created="2024-05-02", total={"N": "10.50"}),
    item("USER#ann", "ORDER#17", created="2024-05-09", total={"N": "8"}),
    item("USER#bob", "ORDER#18", created="2024-05-11", total={"N": "3.25"}),
]


@pytest.mark.exhaustive
def test_guide_of_single_table_designs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    full(ITEMS, table="app").write(tmp_path / "exports/app")
    printed = ""
    shown = 0
    for block in blocks((DOCS / PAGE).read_text(encoding="utf-8"), PAGE):
        if block.language == "sh":
            for line in block.command_lines:
                result = run(*shlex.split(line)[1:])
                assert result.exit_code == 0, result.output
                printed = result.stdout
        elif block.language == "text":
            shown += 1
            assert printed.strip() == block.text.strip()
        elif block.language == "yaml":
            written = yaml.safe_load((tmp_path / "ddb_lake.yaml").read_text())["attributes"]["tables"][0]
            described = yaml.safe_load(block.text)["attributes"]["tables"][0]
            assert {name: written[name] for name in described} == described
    assert shown == 2
