"""Small inputs that once failed, each in a folder of `inputs` with a README that states its correct result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ddb_lake_tests.support.cases import INPUTS, Case


@pytest.fixture(autouse=True)
def _without_aws(no_aws: None) -> None:
    """Every case."""


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Case]:
    """`case("objects-mixed")`: a fresh copy of that input as the working folder."""

    def copy(name: str) -> Case:
        folder = tmp_path / name
        shutil.copytree(INPUTS / name, folder)
        monkeypatch.chdir(folder)
        return Case(folder)

    return copy
