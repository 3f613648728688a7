"""The command line starts at once: nothing heavy is imported before a command needs it."""

from __future__ import annotations

import subprocess
import sys
import time

HEAVY = (
    "boto3",
    "botocore",
    "dagster",
    "duckdb",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pyiceberg",
    "rich",
    "yaml",
)
LIMIT_S = 0.3


def test_import_of_the_command_line_brings_nothing_heavy() -> None:
    script = (
        "import sys; from ddb_lake.cli.app import COMMANDS, cli; import click; context = click.Context(cli);"
        " [cli.get_command(context, name) for name in COMMANDS];"
        f" print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_help_starts_fast() -> None:
    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ddb_lake.cli", "--help"], capture_output=True, check=True)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(5)) < LIMIT_S
