"""The README's and the guides' commands: where they run, and how."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ddb_lake.config import LakeSettings
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export

ROOT = Path(__file__).parents[2]

DAGSTER = "Under Dagster"
"""The headings below which commands are run here."""

END = "\x1e"
"""Stands between the outputs of commands."""

PROJECT = {
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
"""A Dagster project, as `create-dagster` makes it, but that its steps run in one process: it has to be quick."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the export and the change objects that the README names."""
    ann = order("ann", 1, status={"S": "placed"}, total={"N": "10.5"}, address={"M": {"city": {"S": "Oslo"}}})
    ann["note"] = {"NULL": True}
    gone = order("ann", 2, status={"S": "placed"}, total={"N": "0.1"})
    bob = order("bob", 1, status={"N": "7"}, total={"N": "99.95"})
    cec = order("cec", 7, status={"S": "placed"}, total={"N": "5"}, tags={"SS": ["gift", "rush"]})
    write_export(tmp_path / "exports/orders", "orders", [ann, gone, bob])
    hour_later = EXPORT_US + 3_600_000_000
    paid, inserted = change(1, hour_later + 1, {**ann, "status": {"S": "paid"}}, ann), change(3, hour_later + 3, cec)
    landing = tmp_path / "landing/orders/2024/05/14"
    write_changes(landing / "12/one", paid, inserted)
    write_changes(landing / "13/two", change(2, hour_later + 2, None, gone), inserted)
    return tmp_path


def run(commands: Sequence[str], folder: Path, **more: str) -> tuple[list[str], str]:
    """What each command prints, and what all of them say on stderr; they must succeed.

    The surroundings are those of a person who has ddb-lake on the PATH and no AWS account.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGSTER", "DDB_LAKE"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    surroundings = {**kept, "PATH": path, "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", **more}
    code = "import json, sys; from ddb_lake_tests.support.readme_commands import in_one_process as go; go(json.load(sys.stdin))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={**surroundings, "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(ROOT)])},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
    )
    printed = done.stdout.split(END)
    assert done.returncode == 0, f"{commands[len(printed) - 1]}\n{printed[-1]}{done.stderr}"
    return printed[: len(commands)], done.stderr


def settings(model: type[BaseModel] = LakeSettings, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each setting's name as the table has it, its annotation, and its default."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = next(_models(field.annotation), None)
        default = field.get_default(call_default_factory=True)
        if inner is None or not isinstance(default, BaseModel):
            yield path, field.annotation, default
        if inner is not None:
            yield from settings(inner, f"{path}[]." if isinstance(default, tuple) else f"{path}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


ENTRY_POINTS = ("ddb-lake", "dg", "dagster")


def in_one_process(commands: Sequence[str]) -> None:
    """Run commands as the shell does, but Python's entry points in this process: importing is most of their time."""
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
