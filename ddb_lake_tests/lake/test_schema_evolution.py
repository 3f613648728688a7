"""Columns that come, go, and change their type: old files and new show each value where it belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.engine.sql import identifier, literal, shown
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.schemas import carried_names, current_schema, duckdb_type
from ddb_lake_tests.support.duckdb_wheels import HAS_WHEELS
from ddb_lake_tests.support.iceberg_table import catalog, connection

ID = Column(("id",), "S", "id", "string")


def schema(*columns: Column) -> TableSchema:
    return TableSchema(("id",), (ID, *columns))


def column(path: str, name: str, kind: str = "long", tag: str = "N") -> Column:
    return Column((path,), tag, name, kind)


def put(commit: Commit, table: Table, **values: str) -> Table:
    """Write one row with the columns as the commit makes them, and commit."""
    metadata = commit.transaction.table_metadata
    columns = (
        f"{values.get(f.name, 'NULL')}::{duckdb_type(f.field_type)} AS {identifier(carried)}"
        for carried, f in zip(carried_names(metadata.schema()), metadata.schema().fields, strict=True)
    )
    query = "SELECT " + ", ".join(columns)
    added = FileWriter.for_table(connection(), table, metadata).write(query, metadata)
    commit.snapshot(Delta(added=added))
    return commit.run()


def evolved(table: Table, old: TableSchema, new: TableSchema, keep_expired: bool = False) -> Commit:
    commit = Commit(table)
    evolve_table(commit, table.schema(), old, new, keep_expired)
    return commit


def values(table: Table, *names: str) -> list[tuple[Any, ...]]:
    """Columns of all rows through three readers, which must agree."""
    con = connection()
    wanted = ", ".join(identifier(name) for name in names)
    ours = con.execute(f"SELECT {wanted} FROM {shown(scan_table(table).sql())} ORDER BY id").fetchall()
    scanned = table.scan().to_arrow().sort_by("id")
    assert ours == list(zip(*(scanned[name].to_pylist() for name in names), strict=True))
    if HAS_WHEELS:
        source = f"iceberg_scan({literal(table.metadata_location)})"
        assert ours == con.execute(f"SELECT {wanted} FROM {source} ORDER BY id").fetchall()
    return ours


def test_added_column_is_empty_in_older_rows(tmp_path: Path) -> None:
    old, new = schema(), schema(column("v", "v"), column("t", "t", "list<string>", "SS"))
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", current_schema(old))
        table = put(Commit(table), table, id="'a'")
        table = put(evolved(table, old, new), table, id="'b'", v="7", t="['x']")
        assert values(table, "id", "v", "t") == [("a", None, None), ("b", 7, ["x"])]
        assert table.schema().find_field("v").doc == "v (N)"
        assert len(table.snapshots()) == 2


def test_change_that_would_rename_a_column_is_refused(tmp_path: Path) -> None:
    old, new = schema(column("v", "v")), schema(column("v", "v_1a2b"), column("V", "v"))
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", current_schema(old))
        with pytest.raises(CheckFailed, match="v_1a2b"):
            evolved(table, old, new)


def test_retyped_column_begins_again_under_another_id(tmp_path: Path) -> None:
    """pyiceberg would accept another scale, and old files would then show 1.25 as 0.000000125."""
    old, new = schema(column("n", "n", "decimal(38,2)")), schema(column("n", "n", "decimal(38,9)"))
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", current_schema(old))
        table = put(Commit(table), table, id="'a'", n="1.25")
        before = table.schema().find_field("n").field_id
        table = put(evolved(table, old, new), table, id="'b'", n="0.123456789")
        assert table.schema().find_field("n").field_id > before
        assert [row[0] for row in values(table, "id")] == ["a", "b"]
        assert [None if n is None else str(n) for _, n in values(table, "id", "n")] == [None, "0.123456789"]


def test_column_whose_tag_changes_is_not_reinterpreted(tmp_path: Path) -> None:
    old, new = schema(column("v", "v", "string", "S")), schema(column("v", "v", "string", "N"))
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", current_schema(old))
        table = put(Commit(table), table, id="'a'", v="'1'")
        table = put(evolved(table, old, new), table, id="'b'", v="'2'")
        assert values(table, "id", "v") == [("a", None), ("b", "2")]


def test_column_that_is_gone_leaves_the_schema(tmp_path: Path) -> None:
    old, new = schema(column("v", "v"), column("w", "w")), schema(column("w", "w"))
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", current_schema(old))
        table = put(Commit(table), table, id="'a'", v="1", w="2")
        table = put(evolved(table, old, new), table, id="'b'", w="3")
        assert [f.name for f in table.schema().fields][:2] == ["id", "w"]
        assert values(table, "id", "w") == [("a", 2), ("b", 3)]


def test_same_columns_change_nothing(tmp_path: Path) -> None:
    same = schema(column("v", "v"))
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", current_schema(same))
        before = table.schema()
        table = put(evolved(table, same, same), table, id="'a'")
        assert table.schema() == before


def test_expiry_column_comes_when_expired_items_are_kept_and_stays(tmp_path: Path) -> None:
    same = schema(column("v", "v"))
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", current_schema(same))
        table = put(Commit(table), table, id="'a'")
        table = put(
            evolved(table, same, same, keep_expired=True), table, id="'b'", _expired_at="TIMESTAMP '2026-03-01'"
        )
        assert [row[1] is None for row in values(table, "id", "_expired_at")] == [True, False]
        table = put(evolved(table, same, same), table, id="'c'")
        assert len(values(table, "id", "_expired_at")) == 3
