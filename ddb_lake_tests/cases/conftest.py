"""Small inputs that once failed, each in a folder of `inputs` with a README that states its correct result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ddb_lake.cli.app import cli

INPUTS = Path(__file__).parent / "inputs"


@dataclass(frozen=True, slots=True)
class Case:
    """A copy of one input, which is the working folder; commands run in this process."""

    folder: Path

    def run(self, *arguments: object) -> Result:
        """Run one command, whatever its exit status."""
        return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="ddb-lake", catch_exceptions=False)

    def ok(self, *arguments: object) -> Result:
        """Run one command that must succeed."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.stderr
        return result

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        rows: list[dict[str, Any]] = json.loads(self.ok("query", sql, "--json").stdout)
        return rows

    def items(self, table: str = "t") -> list[dict[str, Any]]:
        """The items that `dump` returns."""
        return [json.loads(line)["Item"] for line in self.ok("dump", table).stdout.split("\n") if line]


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands see no credentials and do not look for any."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "DDB_LAKE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Case]:
    """`case("objects-mixed")`: a fresh copy of that input as the working folder."""

    def copy(name: str) -> Case:
        folder = tmp_path / name
        shutil.copytree(INPUTS / name, folder)
        monkeypatch.chdir(folder)
        return Case(folder)

    return copy
