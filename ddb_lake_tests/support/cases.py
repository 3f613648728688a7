"""Small inputs that once failed: a copy of one as the working folder, and the commands run on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from ddb_lake.cli.app import cli

INPUTS = Path(__file__).parents[1] / "cases" / "inputs"


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
