"""The code of an earlier commit of this repository, which makes lakes for tests of upgrades."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ddb_lake_tests.support.docs_blocks import ROOT
from ddb_lake_tests.support.skips import NO_HISTORY

LAST_OF_FORMAT_1 = "d1a824b"
"""The last commit that writes lakes of format 1."""

_PROGRAM = """
import json, sys
from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
settings, table, steps = json.loads(sys.argv[1])
with open_lake(parse_settings(settings, "test")) as lake:
    for kind, uris in steps:
        if kind == "load":
            load_export(lake, table, uris[0])
        elif kind == "apply":
            apply_objects(lake, table, uris)
        else:
            compact_table(lake, table, force=True)
"""


def unpack(commit: str, folder: Path) -> Path:
    """Write the package as it was at a commit into a folder. Skips the test in a shallow checkout, which does not have the commit.

    Raises RuntimeError if a checkout with history does not have the commit.
    """
    shallow = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True, check=False
    )
    if shallow.stdout.strip() != b"false":
        pytest.skip(NO_HISTORY)
    archive = subprocess.run(["git", "archive", commit, "ddb_lake"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise RuntimeError(f"this checkout has no commit {commit}: {archive.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def run_release(package: Path, settings: dict[str, Any], table: str, steps: list[tuple[str, list[str]]]) -> str | None:
    """Run steps with the code of an earlier release; its error, if it fails."""
    argument = json.dumps([settings, table, steps])
    environment = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, argument],
        env=environment,
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
