"""A lake of orders and web analytics, and dbt's models of it: built when half has landed, and twice after that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ddb_lake_tests.support import dbt_lake
from ddb_lake_tests.support.dbt_lake import Built
from ddb_lake_tests.support.shared_folder import made_once


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The models after the three builds of `dbt_lake.build_all`."""

    def make(folder: Path) -> None:
        folder.mkdir()
        command = [sys.executable, "-m", dbt_lake.__name__, str(folder)]
        done = subprocess.run(command, cwd=dbt_lake.ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return dbt_lake.made(made_once(tmp_path_factory, "dbt-lake", make))
