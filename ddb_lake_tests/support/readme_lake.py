"""The landed files of the README's example, and running its commands in a process of their own.

`folder_with_landed_files` creates the export and change objects that the README names. `run` executes commands like a user who
has `ddb-lake` on the PATH and no AWS account. `DAGSTER_PROJECT` is a project as `create-dagster` creates it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ddb_lake_tests.support.docs_blocks import ROOT
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export

ENTRY_POINTS = ("ddb-lake", "dg", "dagster")
END = "\x1e"
"""Separates the outputs of commands."""

DAGSTER_PROJECT = {
    "pyproject.toml": '[project]\nname = "acme"\nversion = "1"\nrequires-python = ">=3.11"\n\n'
    '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\nroot_module = "acme"\n',
    "src/acme/__init__.py": "",
    "src/acme/defs/__init__.py": "",
    "src/acme/definitions.py": """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
""",
}
"""Files of a Dagster project. Its steps run in one process, which is faster."""


def folder_with_landed_files(folder: Path) -> Path:
    """Write the README's export and change objects into a folder, and return it."""
    ann = order("ann", 1, status={"S": "placed"}, total={"N": "10.5"}, address={"M": {"city": {"S": "Oslo"}}})
    ann["note"] = {"NULL": True}
    removed = order("ann", 2, status={"S": "placed"}, total={"N": "0.1"})
    bob = order("bob", 1, status={"N": "7"}, total={"N": "99.95"})
    cec = order("cec", 7, status={"S": "placed"}, total={"N": "5"}, tags={"SS": ["gift", "rush"]})
    write_export(folder / "exports/orders", "orders", [ann, removed, bob])
    hour_later = EXPORT_US + 3_600_000_000
    paid, inserted = change(1, hour_later + 1, {**ann, "status": {"S": "paid"}}, ann), change(3, hour_later + 3, cec)
    landing = folder / "landing/orders/2024/05/14"
    write_changes(landing / "12/one", paid, inserted)
    write_changes(landing / "13/two", change(2, hour_later + 2, None, removed), inserted)
    return folder


def run(commands: Sequence[str], folder: Path, **variables: str) -> tuple[list[str], str]:
    """Run commands in a folder; return the output of each, and stderr of all. They must succeed.

    `variables` extend an environment without AWS, Dagster and ddb_lake settings.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGSTER", "DDB_LAKE"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    base = {**kept, "PATH": path, "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", **variables}
    code = f"import json, sys; from {__name__} import in_one_process as go; go(json.load(sys.stdin))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={**base, "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(ROOT)])},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
    )
    printed = done.stdout.split(END)
    assert done.returncode == 0, f"{commands[len(printed) - 1]}\n{printed[-1]}{done.stderr}"
    return printed[: len(commands)], done.stderr


def in_one_process(commands: Sequence[str]) -> None:
    """Run commands like the shell, but Python's entry points in this process: importing takes most of their time."""
    scripts = {script.name: script for script in importlib.metadata.entry_points(group="console_scripts")}
    for command in commands:
        name, *arguments = shlex.split(command)
        if name in ENTRY_POINTS and not set(arguments) & {">", "|", "&&"}:
            sys.argv = [name, *arguments]
            try:
                scripts[name].load()()
            except SystemExit as ended:
                if ended.code:
                    raise
        else:
            subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True)
        print(END, end="", flush=True)
