"""SQL over the lake: which names there are, whatever they look like, and what errors say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from ddb_lake.errors import UsageError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.query import FETCH_ROWS, near_names, run_query, table_columns, table_names
from ddb_lake.pipeline.read.time_travel import write_query
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, item, land
from ddb_lake_tests.support.several_tables import lake_of, queried

pytestmark = pytest.mark.usefixtures("no_source")


@pytest.mark.parametrize("name", ("orders", "Orders.v2-eu", "select", "2024-orders", "a.b.c", "_"))
def test_table_of_any_name_can_be_queried_by_it(tmp_path: Path, name: str) -> None:
    landed = land(tmp_path / "object", change(T0_US, item("a", v=1), table=name), "\ngarbage\n")
    with lake_of(tmp_path / "lake", {"name": name}) as lake:
        apply_objects(lake, name, [landed])
        assert table_names(lake) == sorted(name + suffix for suffix in ("", "_changes", "_objects", "_quarantine"))
        assert queried(lake, f'SELECT id, v FROM "{name}"') == [("a", 1)]
        assert queried(lake, f'SELECT event_name FROM "{name}_changes"') == [("INSERT",)]
        assert queried(lake, f'SELECT raw FROM "{name}_quarantine"') == [(b"garbage",)]


def test_views_show_living_rows_only_and_join(tmp_path: Path) -> None:
    export = full([item("a", v="1.50"), item("b", v=2)]).write(tmp_path / "export")
    landed = land(
        tmp_path / "object",
        change(T0_US + MINUTE_US, None, item("b")),
        change(T0_US + MINUTE_US, item("c", v={"N": "0.25"})),
    )
    with lake_of(tmp_path / "lake", {"name": "orders"}, {"name": "nothing.landed"}) as lake:
        load_export(lake, "orders", str(export))
        apply_objects(lake, "orders", [landed])
        assert queried(lake, "SELECT id FROM orders ORDER BY id") == [("a",), ("c",)]
        joined = "SELECT count(*) FROM orders o JOIN orders_changes c ON c.keys LIKE '%\"' || o.id || '\"%'"
        assert queried(lake, joined) == [(1,)]
        assert table_names(lake) == ["orders", "orders_changes", "orders_objects"]


@pytest.mark.parametrize("name", ("session", "lake", "sql", "result"))
def test_query_reads_no_variable_of_the_process(tmp_path: Path, name: str) -> None:
    with (
        lake_of(tmp_path / "lake", {"name": "orders"}) as lake,
        pytest.raises(UsageError, match=f"there is no table '{name}'"),
    ):
        queried(lake, f"SELECT * FROM {name}")


def test_types_are_those_of_the_columns(tmp_path: Path) -> None:
    items = [item("a", n={"N": "1.25"}, b={"B": "AAE="}, f={"BOOL": True}, s={"SS": ["x"]}, l={"L": []})]
    export = full(items).write(tmp_path / "export")
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(export))
        with run_query(lake, "SELECT id, n, b, f, s, l, _changed_at, _source, _rescued FROM orders") as result:
            assert result.columns == ("id", "n", "b", "f", "s", "l", "_changed_at", "_source", "_rescued")
            assert result.types[:5] == ("VARCHAR", "DECIMAL(38,2)", "BLOB", "BOOLEAN", "VARCHAR[]")
            ((row,),) = result.batches()
        assert row[:6] == ("a", Decimal("1.25"), b"\x00\x01", True, ["x"], "[]")
        assert row[7:] == ("snapshot", None)


def test_result_comes_in_bounded_batches(tmp_path: Path) -> None:
    with (
        lake_of(tmp_path / "lake", {"name": "orders"}) as lake,
        run_query(lake, f"SELECT * FROM range({2 * FETCH_ROWS + 1})") as result,
    ):
        assert [len(batch) for batch in result.batches()] == [FETCH_ROWS, FETCH_ROWS, 1]


@pytest.mark.parametrize(
    "sql", ("SELEC 1", "SELECT * FROM nowhere", "SELECT no_such_column FROM orders", "SELECT 1/0 AS x, error('no')")
)
def test_wrong_query_is_wrong_use(tmp_path: Path, sql: str) -> None:
    landed = land(tmp_path / "object", change(T0_US, item("a", v=1)))
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        apply_objects(lake, "orders", [landed])
        with pytest.raises(UsageError):
            queried(lake, sql)


def test_tables_without_anything_yet_are_empty_views(tmp_path: Path) -> None:
    landed = land(tmp_path / "object", change(T0_US, item("a", v=1)))
    with lake_of(tmp_path / "lake", {"name": "orders"}, {"name": "later"}) as lake:
        apply_objects(lake, "orders", [landed])
        assert queried(lake, "SELECT reason, raw FROM orders_quarantine") == []
        assert queried(lake, "SELECT count(*) FROM later_changes WHERE event_name = 'INSERT'") == [(0,)]
        assert [name for name, _, _ in table_columns(lake, "ORDERS")][:2] == ["id", "v"]
        with pytest.raises(UsageError, match="there is no table 'nowhere'; there are: orders, orders_changes"):
            table_columns(lake, "nowhere")


# --- which tables a statement reads


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake of three tables with rows, one of them with a name that needs quotes, and of many without."""
    folder = tmp_path_factory.mktemp("wide")
    tables = [{"name": name} for name in ("orders", "customers", "a.b-c", *(f"t{number}" for number in range(500)))]
    landed = {
        name: land(folder / name, change(T0_US, item("a", v=1), table=name))
        for name in ("orders", "customers", "a.b-c")
    }
    with lake_of(folder / "lake", *tables) as lake:
        for name, uri in landed.items():
            apply_objects(lake, name, [uri])
        yield lake


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT id FROM orders", {"orders"}),
        ("SELECT id FROM Orders JOIN orders_changes ON true", {"orders", "orders_changes"}),
        ('SELECT id FROM "A.B-C"', {"a.b-c"}),
        ("SELECT 'customers' AS told, id FROM orders -- t7", {"orders", "customers", "t7"}),
        ("DESCRIBE orders", {"orders"}),
        ("WITH mine AS (FROM t12_quarantine) FROM mine", {"t12_quarantine"}),
        ("SELECT 1", set()),
    ],
)
def test_statement_reads_the_metadata_of_what_it_names(
    wide: Lake, monkeypatch: pytest.MonkeyPatch, sql: str, names: set[str]
) -> None:
    read: list[str] = []
    real = LakeCatalog.table
    monkeypatch.setattr(LakeCatalog, "table", lambda self, name: (read.append(name), real(self, name))[1])

    queried(wide, sql)

    assert set(read) == names
    assert len(read) == len(names)


@pytest.mark.parametrize(
    "sql",
    cases(
        [
            "SHOW TABLES",
            "PRAGMA show_tables",
            "SELECT view_name FROM duckdb_views() WHERE NOT internal",
            "SELECT table_name FROM information_schema.tables WHERE table_name <> 'orders'",
        ],
        quick=("SHOW TABLES",),
    ),
)
def test_lists_of_tables_are_complete(wide: Lake, sql: str) -> None:
    assert {"customers", "a.b-c", "t499_changes"} <= {str(row[0]) for row in queried(wide, sql)}


def test_table_named_otherwise_than_by_its_name_is_found(wide: Lake) -> None:
    assert queried(wide, "SELECT id FROM query_table('ord' || 'ers')") == [("a",)]


def test_names_are_listed_without_reading_any_table(wide: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(LakeCatalog, "table")

    found = [name + suffix for name in ("a.b-c", "customers", "orders") for suffix in ("", "_changes", "_objects")]
    assert table_names(wide) == found
    assert near_names(wide, "costumers") == ["customers"]
    assert near_names(wide, "orders_chnages")[0] == "orders_changes"


# --- what a query imports


def test_query_imports_few_modules_and_neither_mysql_nor_streams() -> None:
    code = "import sys, ddb_lake.pipeline.read.query; print(*(m for m in sys.modules if m.partition('.')[0] == 'ddb_lake'))"

    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert len(modules) <= 47
    assert [name for name in modules if "mysql" in name or "streams" in name or "kinesis" in name] == []
    others = ("ddb_lake.config", "ddb_lake.core.protection", "ddb_lake.pipeline.plan", "ddb_lake.pipeline.apply")
    assert [name for name in modules if name.startswith(others)] == []


# --- a query only reads


@pytest.mark.parametrize("as_of_us", (None, T0_US))
def test_query_opens_no_file_but_those_of_its_tables(tmp_path: Path, as_of_us: int | None) -> None:
    other = tmp_path / "other.csv"
    other.write_text("v\n7\n")
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(full([item("a", v=1)]).write(tmp_path / "export")))
        apply_objects(lake, "orders", [land(tmp_path / "landed", change(T0_US, item("b", v=2)))])
        (tmp_path / "lake" / "link.csv").symlink_to(other)
        catalog = tmp_path / "lake" / "catalog.db"
        before = catalog.read_bytes()
        attacks = [
            "FROM read_text('{}')",
            "FROM '{}'",
            "SELECT o.id, x.* FROM orders o, glob('{}') x",
            "COPY orders TO '{}'",
            "COPY (SELECT 1) TO '{}' (FORMAT csv)",
            "EXPLAIN ANALYZE COPY orders TO '{}'",
            "ATTACH '{}' AS other",
            "SELECT 1; COPY orders TO '{}'",
        ]
        files = [catalog, other, tmp_path / "lake" / "link.csv", next((tmp_path / "lake").rglob("*.metadata.json"))]
        for attack in attacks:
            for file in files:
                with pytest.raises(UsageError):
                    queried(lake, attack.format(file), as_of_us)
        assert catalog.read_bytes() == before
        assert sorted(queried(lake, "SELECT id FROM orders", as_of_us))[0] == ("a",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("'1 month 1 day 1.5 s'::INTERVAL", "1 month 1 day 00:00:01.5"),
        ("'2024-05-14 11:14:20.123456789'::TIMESTAMP_NS", "2024-05-14 11:14:20.123456789"),
        ("'11:14:20.123456789'::TIME_NS", "11:14:20.123456789"),
        ("'11:14:20+05:30'::TIMETZ", "11:14:20+05:30"),
    ],
)
def test_value_that_python_does_not_keep_is_its_text(tmp_path: Path, value: str, text: str) -> None:
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        sql = f"SELECT {value} AS a, 7 AS a, [{value}] AS b, {{'x': {value}}} AS c, union_value(u := {value}) AS d;"
        with run_query(lake, sql) as result:
            assert result.columns == ("a", "a", "b", "c", "d")
            assert list(result.batches()) == [[(text, 7, [text], {"x": text}, text)]]


def test_query_is_written_to_a_parquet_file_with_exact_values(tmp_path: Path) -> None:
    exact = "SELECT 12345678901234567890123456789012345678::HUGEINT AS h, 1.10::DECIMAL(38, 2) AS d, ['x'] AS l,"
    sql = f"{exact} INTERVAL '1 month 0.000001 seconds' AS i, {{'HUGEINT': 1::HUGEINT}} AS s, 1 AS h -- end"
    path = tmp_path / "rows.parquet"
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        assert write_query(lake, sql, path) == 1
        expected = queried(lake, sql.replace("AS i", "::VARCHAR AS i"))
        with lake.session() as session:
            assert session.rows("FROM read_parquet(?)", [str(path)]) == expected
            kinds = session.rows("SELECT column_name, column_type FROM (DESCRIBE FROM read_parquet(?))", [str(path)])
        assert kinds[0] == ("h", "DECIMAL(38,0)") and kinds[-1] == ("h_1", "INTEGER")
        with pytest.raises(UsageError, match="no table"):
            write_query(lake, "EXPLAIN SELECT 1", path)
        with pytest.raises(UsageError):
            write_query(lake, "SELECT 200000000000000000000000000000000000000::UHUGEINT AS h", path)
