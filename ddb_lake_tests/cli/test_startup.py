"""The command line starts at once: nothing heavy is imported before a command needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.heavy_imports import HEAVY

MOST_MODULES = 300
"""That `--help` may import, Python's own start included; a heavy package alone has more."""


def imported(*arguments: str, folder: Path | None = None) -> set[str]:
    """The modules that a run of the command line has imported in the end."""
    script = (
        "import atexit, sys; from ddb_lake.cli.app import main;"
        " atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    command = [sys.executable, "-c", script, *arguments]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return set(found.stderr.splitlines()[-1].split())


def test_import_of_the_command_line_brings_nothing_heavy() -> None:
    script = (
        "import sys; from ddb_lake.cli.app import COMMANDS, cli; import click; context = click.Context(cli);"
        " [cli.get_command(context, name) for name in COMMANDS];"
        f" print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("arguments", [("--help",), ("query", "--help"), ("--version",)], ids=" ".join)
def test_help_imports_few_modules(arguments: tuple[str, ...]) -> None:
    modules = imported(*arguments)

    assert sorted(modules & set(HEAVY)) == []
    assert len(modules) < MOST_MODULES


def test_local_lake_needs_neither_pandas_nor_boto3(project: Path, landing: Path, run: Run) -> None:
    assert run("load", "orders", "--export", landing / "export").exit_code == 0

    for command in (("status",), ("query", "FROM orders")):
        modules = imported(*command, folder=project)
        assert "pyiceberg.io.pyarrow" in modules
        assert sorted(modules & {"pandas", "boto3", "dagster", "moto"}) == []


def test_status_of_a_local_lake_imports_neither_sqlalchemy_nor_duckdb(project: Path, landing: Path, run: Run) -> None:
    assert run("load", "orders", "--export", landing / "export").exit_code == 0
    key = '{"customer": "cec", "order_id": 1}'
    assert run("erase", "orders", "--key", key, "--yes").exit_code == 0

    unused = {"sqlalchemy", "duckdb", "_duckdb", "urllib3", "ddb_lake.pipeline.apply.object_reader"}
    assert sorted(imported("status", folder=project) & unused) == []


def test_pandas_is_imported_only_where_it_is_used() -> None:
    script = (
        "from ddb_lake.engine.import_hook import hide_pandas; hide_pandas(); import sys, pyarrow.dataset, pyarrow;"
        " assert 'pandas' not in sys.modules;"
        " frame = pyarrow.table({'a': [1]}).to_pandas(); print(type(frame).__name__, pyarrow.table(frame).num_rows)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["DataFrame", "1"]
