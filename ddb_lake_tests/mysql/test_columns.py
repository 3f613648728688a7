from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.engine.session import connect
from ddb_lake.errors import ConfigError
from ddb_lake.mysql.columns import key_index, replicated_columns, sql_type
from ddb_lake.mysql.csv_rows import write_row
from ddb_lake.mysql.position import Position
from ddb_lake.mysql.replication import _write_csv
from ddb_lake.mysql.statements import shortened
from ddb_lake_tests.support.csv_changes import read_rows

SCHEMA = TableSchema(
    ("pk", "sk"),
    (
        Column(("pk",), "S", "pk", "string"),
        Column(("sk",), "B", "sk", "binary"),
        Column(("n",), "N", "n", "long"),
        Column(("d",), "N", "d", "decimal(38,9)"),
        Column(("wide",), "N", "wide", "decimal(38,37)"),
        Column(("text",), "N", "text", "string"),
        Column(("m",), "M", "m", "json"),
        Column(("set",), "NS", "set", "list<long>"),
        Column(("b",), "B", "b", "binary"),
    ),
)


def test_each_type_has_one_that_holds_all_its_values() -> None:
    types = {one.name: one.sql.type for one in replicated_columns(SCHEMA, expired=True)}

    assert types == {
        "pk": "VARCHAR(2048)",
        "sk": "VARBINARY(1024)",
        "n": "BIGINT",
        "d": "DECIMAL(38,9)",
        "wide": "LONGTEXT",
        "text": "LONGTEXT",
        "m": "JSON",
        "set": "JSON",
        "b": "LONGBLOB",
        "_changed_at": "DATETIME(6)",
        "_source": "LONGTEXT",
        "_rescued": "LONGTEXT",
        "_expired_at": "DATETIME(6)",
    }
    assert sql_type(SCHEMA, SCHEMA.columns[6], native_json=False) == "LONGTEXT"


def test_wanted_columns_come_with_the_key_and_the_metadata() -> None:
    columns = replicated_columns(SCHEMA, False, wanted=["n"], types={"n": "int"})

    assert [one.name for one in columns] == ["pk", "sk", "n", "_changed_at", "_source", "_rescued"]
    assert columns[2].sql.type == "int"
    assert key_index(SCHEMA, columns) == ["`pk`(191)", "`sk`(191)"]
    assert key_index(SCHEMA, replicated_columns(SCHEMA, False, types={"pk": "varchar(20)", "sk": "int"})) == [
        "`pk`(20)",
        "`sk`",
    ]


@pytest.mark.parametrize("named", [{"wanted": ["x"]}, {"types": {"x": "int"}}])
def test_column_that_the_lake_has_not_is_refused(named: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="no such columns in the lake: x"):
        replicated_columns(SCHEMA, False, **named)  # type: ignore[arg-type]


@given(st.lists(st.text("ab", min_size=60, max_size=70), unique=True, max_size=6))
def test_names_fit_and_stay_different(names: list[str]) -> None:
    short = [shortened(name) for name in names]

    assert all(len(name) <= 64 for name in short) and len(set(short)) == len(names)
    assert all(a == b for a, b in zip(names, short, strict=True) if len(a) <= 64)


def test_position_is_read_as_it_was_written() -> None:
    position = Position(2**62, 7, None, -5, SCHEMA, tuple(replicated_columns(SCHEMA, True)), 3)

    assert Position.load(position.dump()) == position


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.text('N"U,L\n\\', max_size=6)
        ),
        max_size=5,
    )
)
def test_file_that_duckdb_writes_is_the_one_that_csvrows_describes(rows: list[tuple[str | None, str | None]]) -> None:
    with connect(threads=1) as session:
        session.con.execute("SET preserve_insertion_order = true")
        session.con.execute("CREATE TABLE t (i INT, a VARCHAR, b VARCHAR)")
        for number, row in enumerate(rows):
            session.con.execute("INSERT INTO t VALUES (?, ?, ?)", [number, *row])
        path = session.folder / "rows.csv"

        _write_csv(session, "SELECT a, b FROM t ORDER BY i", path)

        written = path.read_bytes().decode()
    assert written == "".join(write_row(row) for row in rows)
    assert list(read_rows(written)) == [list(row) for row in rows]
