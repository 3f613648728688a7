"""Branches of exports that another engine dropped: every command that needs one names the load that restores it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ddb_lake.cli.app import cli
from ddb_lake.cli.doctor.subject import LakeSubject
from ddb_lake.cli.doctor.warehouse import examine_files
from ddb_lake.config import load_settings
from ddb_lake.lake.commit import FOREVER_MS
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.exports_to_load import exports_to_load
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, item, land
from ddb_lake_tests.support.folder_lake import lake

CONFIGURATION = """\
type: ddb_lake.DynamoDBLakeComponent
attributes:
  warehouse: lake
  tables:
    - {name: orders, key: [id]}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="ddb-lake")


def items_of(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return sorted(result.stdout.splitlines())


def iso(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A lake of two full exports, with changes after each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ddb_lake.yaml").write_text(CONFIGURATION)
    with lake(tmp_path / "lake", "orders", ["id"]) as made:
        for number in range(2):
            at_us = T0_US + number * HOUR_US
            items = [item(f"o{n}", v=n, **({"late": "x"} if number else {})) for n in range(6)]
            load_export(made, "orders", str(full(items, at_us=at_us).write(tmp_path / "exports" / str(number))))
            records = [
                change(at_us + 10 * MINUTE_US, item("o1", v=50 + number)),
                change(at_us + MINUTE_US, None, item("o2")),
            ]
            apply_objects(made, "orders", [land(tmp_path / f"landing/2026/03/01/{9 + number:02d}/a", *records)])
        yield made


def drop_branch(opened: Lake, number: int) -> str:
    table = opened.current("orders")
    assert table is not None
    export = CurrentState.of(table).exports[number]
    with table.manage_snapshots() as manage:
        manage.remove_branch(export.branch)
    assert export.uri is not None
    return export.uri


@pytest.mark.parametrize("number", [0, 1])
def test_lost_branch_is_reported_and_the_load_of_its_export_restores_it(opened: Lake, number: int) -> None:
    moments = [iso(T0_US + minutes * MINUTE_US) for minutes in (5, 30, 65, 90)]
    before = [items_of(run("dump", "orders", "--as-of", moment)) for moment in moments]
    now = items_of(run("dump", "orders"))
    uri = drop_branch(opened, number)

    command = f"ddb-lake load orders --export {uri}"
    needing = run("dump", "orders", "--as-of", moments[0 if number == 0 else 2])
    for result in (run("status"), needing):
        assert result.exit_code == 1
        assert command in result.stderr
    file = Path("ddb_lake.yaml")
    (finding,) = [f for f in examine_files(LakeSubject(file, load_settings(file))) if f.state == "fail"]
    assert finding.check == "orders: files" and command in (finding.next_step or "")
    assert items_of(run("dump", "orders")) == now

    restored = run("load", "orders", "--export", uri)
    assert restored.exit_code == 0, restored.output
    assert [items_of(run("dump", "orders", "--as-of", moment)) for moment in moments] == before
    assert items_of(run("dump", "orders")) == now
    assert run("status").exit_code == 0
    assert load_export(opened, "orders", uri).already_loaded
    table = opened.current("orders")
    assert table is not None and len(CurrentState.of(table).exports) == 2


def test_sync_finds_a_lost_branch_whose_export_is_at_the_configured_place(opened: Lake, tmp_path: Path) -> None:
    drop_branch(opened, 0)
    place = {"bucket": str(tmp_path / "exports"), "prefix": "0"}
    with lake(tmp_path / "lake", "orders", ["id"], export=place) as configured:
        settings = configured.table("orders")
        assert settings.export is not None
        due = list(exports_to_load(configured, settings))
    assert [uri.split("/")[-4] for uri in due] == ["0"]


def test_branches_have_an_age_that_no_expiry_reaches(opened: Lake) -> None:
    table = opened.current("orders")
    assert table is not None
    ages = {name: ref.max_ref_age_ms for name, ref in table.metadata.refs.items()}
    assert set(ages) == {"main", *(export.branch for export in CurrentState.of(table).exports)}
    assert {name: age for name, age in ages.items() if name != "main"} == dict.fromkeys(
        ages.keys() - {"main"}, FOREVER_MS
    )
    assert ages["main"] is None


def test_branches_of_an_earlier_release_get_their_age_with_the_next_commit(opened: Lake, tmp_path: Path) -> None:
    table = opened.current("orders")
    assert table is not None
    export = CurrentState.of(table).exports[0]
    snapshot = table.metadata.refs[export.branch].snapshot_id
    with table.manage_snapshots() as manage:
        manage.remove_branch(export.branch)
    with table.manage_snapshots() as manage:
        manage.create_branch(snapshot, export.branch)
    assert table.metadata.refs[export.branch].max_ref_age_ms is None
    record = change(T0_US + 3 * HOUR_US, item("o5", v=9))
    apply_objects(opened, "orders", [land(tmp_path / "landing/2026/03/01/12/b", record)])
    table = opened.current("orders")
    assert table is not None and table.metadata.refs[export.branch].max_ref_age_ms == FOREVER_MS
