"""`ddb_lake.open`: tables as relations, Arrow and frames, now and as of a time; and a downstream asset that uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

import ddb_lake
from ddb_lake import errors
from ddb_lake.errors import ConfigError, UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.read.time_travel import past_rows
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


def test_items_of_an_earlier_time_are_those_of_a_query(lake: ddb_lake.OpenLake) -> None:
    for as_of in ("2026-03-01T10:00:00Z", datetime.fromtimestamp((T0_US + HOUR_US) / 1e6, UTC)):
        table, query = lake.table("orders", as_of=as_of), lake.sql("FROM orders", as_of=as_of)
        assert table.schema == query.schema
        assert sorted(map(str, table.arrow().to_pylist())) == sorted(map(str, query.arrow().to_pylist()))
        assert table.count() == query.count() == 2
    assert lake.sql("SELECT count(*) AS n FROM orders_changes", as_of="2026-03-01T10:00:00Z").arrow().to_pylist() == [
        {"n": 0}
    ]


def test_items_of_an_earlier_time_are_computed_when_they_are_requested(
    lake: ddb_lake.OpenLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    replays: list[str] = []
    monkeypatch.setattr("ddb_lake.api.past_rows", lambda *args: replays.append(args[2].name) or past_rows(*args))
    table = lake.table("orders", as_of="2026-03-01T10:00:00Z")
    assert repr(table) == "<LakeTable orders as of 2026-03-01 10:00:00Z>"
    assert replays == []
    assert table.count() == table.head(5).count() == 2
    assert replays == ["orders"]


def test_schema_count_head_and_batches(lake: ddb_lake.OpenLake) -> None:
    table = lake.table("orders")

    assert table.schema.field("count").type == pa.int64()
    assert table.schema == table.arrow().schema
    assert [table.count(), table.head(1).count(), table.head(0).count(), table.head(9).head(1).count()] == [2, 1, 0, 1]
    assert table.head(1).arrow().num_rows == 1
    batches = table.batches(rows=1)
    first = next(batches)
    assert lake.changes("orders").count() == 1, "another read, while the batches are open"
    rows = [first, *batches]
    assert [batch.num_rows for batch in rows] == [1, 1]
    assert sorted(row["id"] for batch in rows for row in batch.to_pylist()) == ["1", "2"]
    for fault in (lambda: table.head(-1), lambda: table.batches(0)):
        with pytest.raises(UsageError, match="or more, found"):
            fault()


def test_notebook_shows_the_first_rows_as_a_table(folder: Path, lake: ddb_lake.OpenLake) -> None:
    shown = lake.table("orders")._repr_html_()
    assert shown.count("<tr>") == 3
    assert DIGITS in shown
    assert "<i>NULL</i>" in shown
    assert "first" not in shown

    sql = "SELECT '<b>' || repeat('x', 200) AS long, '\\xff'::BLOB AS bytes, range AS \"<n>\" FROM range(11)"
    shown = lake.sql(sql)._repr_html_()
    assert shown.count("<tr>") == 11
    assert "the first 10 rows" in shown
    assert "&lt;b&gt;xxx" in shown
    assert "x" * 101 not in shown
    assert "<th>&lt;n&gt;<br>" in shown
    assert "<td>ff</td>" in shown
    wide = lake.sql(f"SELECT {', '.join(f'{n} AS c{n}' for n in range(51))}")._repr_html_()
    assert "1 more column in" in wide


@pytest.mark.parametrize("ending", ["", ";", "; -- the end", " -- the end", "/* one */;", ";\n;"])
def test_statement_may_end_as_people_end_it(lake: ddb_lake.OpenLake, ending: str) -> None:
    assert lake.sql(f"-- all orders\nSELECT count(*) AS n FROM orders {ending}").arrow().to_pylist() == [{"n": 2}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DROP TABLE orders", "only reads"),
        ("SELECT 1; SELECT 2", "2 statements at once"),
        ("SELECT 1; DROP TABLE orders", "only reads"),
        ("COPY (FROM orders) TO 'x.csv'", "only reads"),
        ("SELECT * FROM read_csv('/etc/passwd')", "opens no files"),
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM orders", "nothing"),
        ("FROM nothing", "nothing"),
        ("-- nothing", "no statement"),
        ("", "no statement"),
    ],
)
def test_what_is_no_query_is_refused_at_once(lake: ddb_lake.OpenLake, sql: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lake.sql(sql)


def test_fault_in_the_values_of_a_query_is_ours(lake: ddb_lake.OpenLake) -> None:
    table = lake.sql("SELECT id::DATE FROM orders")
    for read in (table.arrow, lambda: list(table.batches()), table.pandas, table._repr_html_):
        with pytest.raises(UsageError, match="Conversion Error"):
            read()


def test_closed_lake_is_an_error_of_ours(folder: Path) -> None:
    with ddb_lake.open(folder) as lake:
        now, then, query = lake.table("orders"), lake.table("orders", as_of="2026-03-02"), lake.sql("FROM orders")
        batches = now.batches()
    for table in (now, then, query):
        for read in (table.arrow, table.count, table.duckdb, table._repr_html_, lambda table=table: table.schema):
            with pytest.raises(UsageError, match="closed"):
                read()
    for request in (
        lambda: lake.table("orders"),
        lambda: lake.sql("SELECT 1"),
        lambda: lake.tables,
        lambda: next(batches),
    ):
        with pytest.raises(UsageError, match="closed"):
            request()
    assert repr(lake) == "<OpenLake, closed>"


def test_time_of_another_type_is_an_error_of_ours(lake: ddb_lake.OpenLake) -> None:
    for instant in (1700000000, 1.5, date(2026, 3, 1), "", "2026-13-01"):
        with pytest.raises(UsageError, match="expected"):
            lake.table("orders", as_of=instant)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="expected"):
            lake.sql("FROM orders", as_of=instant)  # type: ignore[arg-type]


def test_process_without_region_or_credentials_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="AWS_REGION"):
        ddb_lake.open("s3://bucket/lake")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(ConfigError, match="AWS_PROFILE"):
        ddb_lake.open("s3://bucket/lake")


def test_package_exports_its_errors_and_its_version() -> None:
    assert {name for name in errors.__all__ if name != "Facts"} <= set(ddb_lake.__all__)
    assert ddb_lake.errors.UsageError is ddb_lake.UsageError
    assert ddb_lake.__version__ == version("ddb-lake")
    assert [name for name in ddb_lake.__all__ if not hasattr(ddb_lake, name)] == []


def test_changes_and_quarantine_and_sql(lake: ddb_lake.OpenLake) -> None:
    assert lake.changes("orders").arrow()["event_name"].to_pylist() == ["MODIFY"]
    assert lake.quarantine("orders").arrow().num_rows == 1
    assert lake.sql("SELECT count(*) AS n FROM orders JOIN orders_changes c ON true").arrow().to_pylist() == [{"n": 2}]


def test_changes_and_quarantine_of_a_table_without_any_are_empty(lake: ddb_lake.OpenLake) -> None:
    for read in (lake.changes, lake.quarantine):
        assert (read("none").count(), read("none").schema) == (0, read("orders").schema)


def test_faults_say_what_to_do(lake: ddb_lake.OpenLake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ddb-lake status none"):
        lake.table("none")
    with pytest.raises(ConfigError, match="not configured"):
        lake.changes("unknown")
    with pytest.raises(UsageError, match=r"there is no table 'enum'\. The statement"):
        lake.sql("FROM enum")
    with pytest.raises(UsageError, match=r"there is no table 'ordres'\. Did you mean orders"):
        lake.sql("FROM ordres")
    with pytest.raises(ConfigError, match="ddb-lake init"):
        ddb_lake.open(tmp_path)


def test_entity_is_read_by_the_name_of_its_table(tmp_path: Path) -> None:
    table = {"name": "app", "key": ["id"], "entities": [{"name": "user", "key": {"id": "u*"}}, {"name": "rest"}]}
    with lake_of(tmp_path / "lake", table) as lake:
        load_export(lake, "app", str(full([item("u1"), item("u2"), item("o1")]).write(tmp_path / "exports")))
    with ddb_lake.open({"warehouse": str(tmp_path / "lake"), "tables": [table]}) as opened:
        assert sorted(opened.table("app_user").arrow()["id"].to_pylist()) == ["u1", "u2"]
        with pytest.raises(UsageError, match=r"lake\.sql") as raised:
            opened.table("app_user", as_of="2024-01-01")
        assert "SELECT * FROM app_user" in str(raised.value)
        with pytest.raises(ConfigError, match="'app_other' is not configured"):
            opened.table("app_other")


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
