"""What a shell completes: commands, options, and the configured tables without a heavy import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from ddb_lake.cli.app import cli
from ddb_lake.core.operations.config_document import configured_tables
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.heavy_imports import HEAVY


def completed(*line: str) -> list[str]:
    """What is offered for the last word of a line."""
    shell = ShellComplete(cli, {}, "ddb-lake", "_DDB_LAKE_COMPLETE")
    return [item.value for item in shell.get_completions(list(line[:-1]), line[-1])]


def test_commands_and_options_are_completed() -> None:
    assert completed("stat") == ["status"]
    assert "--json" in completed("status", "--")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (("status", ""), ["orders", "customers"]),
        (("dump", "o"), ["orders"]),
        (("sync", "orders", ""), ["customers"]),
        (("quarantine", "show", "c"), ["customers"]),
        (("--config", "ddb_lake.yaml", "status", "o"), ["orders"]),
        (("status", "--config", "none.yaml", ""), []),
    ],
)
def test_tables_are_those_of_the_configuration(project: Path, line: tuple[str, ...], expected: list[str]) -> None:
    assert completed(*line) == expected


def test_file_that_cannot_be_read_offers_nothing(project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("tables: [")
    assert completed("status", "") == []


@pytest.mark.parametrize("document", [None, [], {"tables": 1}, {"attributes": {"tables": [1, {"name": 2}, {}]}}])
def test_documents_of_other_shapes_name_no_table(document: object) -> None:
    assert configured_tables(document) == []


def test_completing_a_table_imports_nothing_heavy(project: Path) -> None:
    script = (
        "import sys, atexit; from ddb_lake.cli.app import main;"
        f" atexit.register(lambda: print('heavy:', *sorted((set({HEAVY!r}) - {{'yaml'}}) & set(sys.modules)))); main()"
    )
    asked = {"_DDB_LAKE_COMPLETE": "bash_complete", "COMP_WORDS": "ddb-lake status o", "COMP_CWORD": "2"}
    found = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **asked}, cwd=project, capture_output=True, text=True
    )
    assert found.stdout.split("\n")[:2] == ["plain,orders", "heavy:"], found.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_names_program_and_variable(run: Run, shell: str) -> None:
    script = run("completion", shell).stdout

    assert "ddb-lake" in script and "_DDB_LAKE_COMPLETE" in script and "%(" not in script


def test_script_is_one_that_bash_takes(run: Run) -> None:
    checked = subprocess.run(["bash", "-n"], input=run("completion", "bash").stdout, text=True, capture_output=True)

    assert (checked.returncode, checked.stderr) == (0, "")
