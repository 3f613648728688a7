"""The command line in this process, a project to run it in, and landed objects for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ddb_lake.cli.app import cli
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export

Run = Callable[..., Result]

CONFIGURATION = """\
type: ddb_lake.DynamoDBLakeComponent
attributes:
  warehouse: warehouse
  tables:
    - {name: orders, key: [customer, order_id]}
    - {name: customers, key: [id]}
"""


@pytest.fixture
def run() -> Run:
    """`run("status", "--json")`: one command in this process."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="ddb-lake", catch_exceptions=False)

    return invoke


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a configuration in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ddb_lake.yaml").write_text(CONFIGURATION)
    return tmp_path


@pytest.fixture(scope="session")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`export/`: three orders; `changes/`: one order changed, one removed, one new (twice), in two hours."""
    folder = tmp_path_factory.mktemp("landing")
    digits = "12345678901234567890123456789012345678"
    first, second = order("ann", 1, total={"N": "10.50"}), order("ann", 2, total={"N": "0.1"}, note={"S": 'a,"b"\nc'})
    third = order("bob", 1, total={"N": digits}, photo={"B": "aGVsbG8="})
    write_export(folder / "export", "orders", [first, second, third])
    changed = {**first, "total": {"N": "11"}}
    later = EXPORT_US + 3_600_000_000
    inserted = change(3, later + 3, order("cec", 7, tags={"SS": ["x", "y"]}))
    write_changes(folder / "changes/2024/05/14/12/one", change(1, later + 1, changed, first), inserted)
    write_changes(folder / "changes/2024/05/14/13/two", change(2, later + 2, None, second), inserted)
    return folder
