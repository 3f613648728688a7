"""`ddb_lake.open`: tables as relations, Arrow and frames, now and as of a time; and a downstream asset that uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

import ddb_lake
from ddb_lake.errors import ConfigError, UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.support.several_tables import lake_of

DIGITS = "12345678901234567890123456789012345.678"
GUIDE = Path(__file__).parents[1] / "ddb_lake" / "docs" / "guides" / "engines.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a lake of two orders (one changed an hour after the export) and a broken record."""
    folder = tmp_path_factory.mktemp("reading")
    settings = {
        "warehouse": str(folder / "lake"),
        "tables": [{"name": "orders", "key": ["id"]}, {"name": "none", "key": ["id"]}],
    }
    (folder / "ddb_lake.yaml").write_text(json.dumps(settings))
    one, two = item("1", total=DIGITS, count=9007199254740993), item("2", count=1, tags={"SS": ["a", "b"]})
    one["total"] = {"N": DIGITS}
    changed = {**two, "count": {"N": "2"}}
    with lake_of(folder / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(full([one, two]).write(folder / "exports")))
        apply_objects(
            lake, "orders", [land(folder / "landing" / "x", change(T0_US + HOUR_US, changed, two), "garbage")]
        )
    return folder


@pytest.fixture
def lake(folder: Path) -> Iterator[ddb_lake.OpenLake]:
    with ddb_lake.open(folder) as opened:
        yield opened


def test_package_is_imported_without_what_it_opens_lakes_with() -> None:
    code = "import ddb_lake, sys; assert not {'duckdb', 'pyarrow', 'dagster', 'pyiceberg'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lake_is_opened_by_folder_file_warehouse_or_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = json.loads((folder / "ddb_lake.yaml").read_text())
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DDB_LAKE_CONFIG", raising=False)

    for place in (folder, str(folder / "ddb_lake.yaml"), folder / "lake", settings, None):
        with ddb_lake.open(place) as opened:
            assert opened.tables == ["orders"]
            assert opened.table("orders").arrow().num_rows == 2


def test_values_are_exact_in_every_form(lake: ddb_lake.OpenLake) -> None:
    table = lake.table("orders")

    found = {row["id"]: row for row in table.arrow().to_pylist()}
    assert found["1"]["total"] == Decimal(DIGITS)
    assert found["1"]["count"] == 9007199254740993
    assert sorted(found["2"]["tags"]) == ["a", "b"]
    frame = table.pandas().set_index("id")
    assert frame.loc["1", "total"] == Decimal(DIGITS)
    assert frame.loc["1", "count"] == 9007199254740993
    assert frame.loc["2", "total"] is not Decimal("nan")
    assert table.duckdb().filter("id = '1'").project("total").fetchall() == [(Decimal(DIGITS),)]


def test_items_of_an_earlier_time(lake: ddb_lake.OpenLake) -> None:
    before = datetime.fromtimestamp((T0_US + HOUR_US) / 1e6, UTC)

    def counts(as_of: Any) -> list[Any]:
        return sorted(row["count"] for row in lake.table("orders", as_of=as_of).arrow().to_pylist())

    assert counts("2026-03-01T10:00:00Z") == [1, 9007199254740993]
    assert counts(before) == counts(before.replace(tzinfo=None)) == [2, 9007199254740993]
    with pytest.raises(UsageError, match="first snapshot"):
        lake.table("orders", as_of="2025-01-01")
    with pytest.raises(UsageError, match="no time"):
        lake.table("orders", as_of="yesterday")


def test_changes_and_quarantine_and_sql(lake: ddb_lake.OpenLake) -> None:
    assert lake.changes("orders").arrow()["event_name"].to_pylist() == ["MODIFY"]
    assert lake.quarantine("orders").arrow().num_rows == 1
    assert lake.sql("SELECT count(*) AS n FROM orders JOIN orders_changes c ON true").arrow().to_pylist() == [{"n": 2}]


def test_faults_say_what_to_do(lake: ddb_lake.OpenLake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ddb-lake status none"):
        lake.table("none")
    with pytest.raises(ConfigError, match="not configured"):
        lake.changes("unknown")
    with pytest.raises(ConfigError, match="ddb-lake init"):
        ddb_lake.open(tmp_path)


def test_polars_is_optional(lake: ddb_lake.OpenLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match="pip install polars"):
        lake.table("orders").polars()

    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(from_arrow=lambda table: ("frame", table.num_rows)))
    assert lake.table("orders").polars() == ("frame", 2)


def test_downstream_asset_of_the_guide_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = next(block for block in GUIDE.read_text(encoding="utf-8").split("```python\n") if "@dg.asset" in block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDB_LAKE_CONFIG", str(folder / "ddb_lake.yaml"))
    namespace: dict[str, Any] = {}
    exec(compile(code.partition("```")[0], str(GUIDE), "exec"), namespace)

    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([namespace["busiest_orders"]], instance=instance)

    assert done.success
    assert (tmp_path / "busiest_orders.parquet").exists()
    event = done.asset_materializations_for_node("busiest_orders")[0]
    assert event.metadata["dagster/row_count"].value == 1
