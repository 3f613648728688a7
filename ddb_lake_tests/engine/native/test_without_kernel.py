"""Tests of what depends on reading pass without the record kernel too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddb_lake.engine.native.library import SWITCH
from ddb_lake_tests.support.effort import by_effort

TESTS = Path(__file__).parents[2]
OFTEN = (
    "pipeline/apply/test_apply.py",
    "pipeline/apply/test_object_reader.py",
    "pipeline/apply/test_parallel_reader.py",
    "integration/test_histories.py",
    "integration/test_crash.py",
)
GUARDED = (
    "pipeline/apply",
    "integration/test_histories.py",
    "integration/test_crash.py",
    "integration/test_readers.py",
    "integration/test_several_sources.py",
)


@pytest.mark.exhaustive
def test_what_depends_on_reading_passes_without_the_kernel() -> None:
    names = by_effort(OFTEN, OFTEN, GUARDED)
    environment = {**os.environ, SWITCH: "off", "DDB_LAKE_HISTORIES": by_effort("4", "4", "10")}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "--hypothesis-profile=same"]
    done = subprocess.run(
        [*command, *(str(TESTS / name) for name in names)],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"\[100%\]", done.stdout), "tests ran"
