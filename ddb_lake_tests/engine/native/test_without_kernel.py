"""Tests of what depends on reading pass without the record kernel too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddb_lake.engine.native.library import SWITCH

TESTS = Path(__file__).parents[2]
GUARDED = (
    "pipeline/apply",
    "integration/test_histories.py",
    "integration/test_crash.py",
    "integration/test_readers.py",
    "integration/test_several_sources.py",
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GUARDED)
def test_it_passes_without_the_kernel(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "--hypothesis-profile=same", str(TESTS / name)]
    done = subprocess.run(command, cwd=TESTS.parent, env={**os.environ, SWITCH: "off"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"\[100%\]", done.stdout), "tests ran"
