"""The command line starts at once: nothing heavy is imported before a command needs it."""

from __future__ import annotations

import resource
import subprocess
import sys

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
        """Processor time, which other work on the machine does not lengthen."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "ddb_lake.cli", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < LIMIT_S
