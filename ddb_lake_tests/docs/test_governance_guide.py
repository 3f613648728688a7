"""The guide of protected attributes, run as it is written: each command, its output, and the query that finds a hash."""

from __future__ import annotations

import contextlib
import io
import shlex
from pathlib import Path

import pytest

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.command_line import run as run
from ddb_lake_tests.support.docs_blocks import DOCS, blocks
from ddb_lake_tests.support.erased_values import files_with
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, item, land

PAGE = "guides/governance.md"
ANN = item("ann", email="ann@example.org", card="4111111111111111", note="calls her cat Minou", address={"M": {}})
BOB = item(
    "bob",
    email="bob@example.org",
    card={"N": "5500000000000004"},
    address={"M": {"street": {"S": "Walnut Street 221b"}, "city": {"S": "Lier"}}},
)
TEST = item("test-1", email="nobody@example.net")
MOVED = {**ANN, "address": {"M": {"street": {"S": "Baker Street 7, top"}, "city": {"S": "Ghent"}}}}


@pytest.mark.exhaustive
def test_guide_of_protected_attributes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKE_HASH_KEY", "an example of a key, not for use")
    full([ANN, BOB, TEST], table="customers").write(tmp_path / "exports/customers")
    moved = change(T0_US + MINUTE_US, MOVED, ANN, table="customers")
    land(tmp_path / "landing/customers/2026/03/01/09/one", moved)
    printed, shown, found = "", 0, ""
    for block in blocks((DOCS / PAGE).read_text(encoding="utf-8"), PAGE):
        if block.language == "yaml" and "warehouse" in block.text:
            (tmp_path / "ddb_lake.yaml").write_text(block.text)
        elif block.language == "sh":
            for line in block.command_lines:
                result = run(*shlex.split(line)[1:])
                assert result.exit_code == 0, result.output
                printed = result.stdout
        elif block.language == "text":
            shown += 1
            assert printed.strip() == block.text.strip()
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(block.text, {})
            found = run("query", out.getvalue().strip(), "--csv").stdout
    assert shown and found.splitlines() == ["id", "ann"]
    hidden = (
        "nobody@example.n",
        "ann@example.org",
        "Walnut Street 221b",
        "Baker Street 7, top",
        "calls her cat Mi",
        "411111111111",
        "550000000000",
    )
    assert [text for text in hidden if files_with(text, tmp_path / "lake")] == []
