"""Commands run without AWS, in a folder of their own."""

from __future__ import annotations

import pytest

from ddb_lake_tests.support.command_line import landing as landing
from ddb_lake_tests.support.command_line import project as project
from ddb_lake_tests.support.command_line import run as run


@pytest.fixture(autouse=True)
def _without_aws(no_aws: None) -> None:
    """Every test of the command line."""
