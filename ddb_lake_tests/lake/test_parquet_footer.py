"""Lists in footers: they get the logical type, and nothing else of the file changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.engine.sql import identifier, literal
from ddb_lake.lake.parquet_footer import UnknownFooterError, annotate_lists, with_list_types
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples

TYPES = (
    *(
        "BIGINT",
        "INTEGER",
        "VARCHAR",
        "BLOB",
        "DOUBLE",
        "BOOLEAN",
        "TIMESTAMP",
        "DECIMAL(38,2)",
        "DECIMAL(9,0)",
        "DATE",
        "UUID",
    ),
    *(
        "VARCHAR[]",
        "DECIMAL(38,5)[]",
        "BLOB[]",
        "BIGINT[][]",
        "STRUCT(a BIGINT[], b STRUCT(c VARCHAR[]))",
        "MAP(VARCHAR, BIGINT[])",
    ),
)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300)
columns = st.lists(
    st.tuples(names, st.sampled_from(TYPES)), min_size=1, max_size=40, unique_by=lambda column: column[0].casefold()
)


def write(path: Path, of: Sequence[tuple[str, str]], rows: int) -> None:
    """Write `rows` rows of NULL: a footer states types, whatever the values are."""
    values = ", ".join(f"NULL::{kind} AS {identifier(name)}" for name, kind in of)
    duckdb.execute(f"COPY (SELECT {values} FROM range({rows})) TO {literal(str(path))} (FORMAT parquet)")


def schema_elements(path: Path) -> list[dict[str, Any]]:
    result = duckdb.execute(f"SELECT * FROM parquet_schema({literal(str(path))})")
    named = [column[0] for column in result.description]
    return [dict(zip(named, row, strict=True)) for row in result.fetchall()]


@examples(quick=15, exhaustive=300, suppress=SHARED_FIXTURE)
@given(columns, st.integers(0, 3))
def test_lists_get_the_logical_type_and_nothing_else_changes(
    tmp_path: Path, of: list[tuple[str, str]], rows: int
) -> None:
    path = tmp_path / "file.parquet"
    write(path, of, rows)
    before, content = schema_elements(path), pq.read_table(path)
    groups = duckdb.execute(f"FROM parquet_metadata({literal(str(path))})").fetchall()
    annotate_lists(path)
    expected = [
        {**element, "logical_type": "ListType()" if element["converted_type"] == "LIST" else element["logical_type"]}
        for element in before
    ]
    assert schema_elements(path) == expected
    assert pq.read_table(path).equals(content)
    assert duckdb.execute(f"FROM parquet_metadata({literal(str(path))})").fetchall() == groups
    written = path.read_bytes()
    annotate_lists(path)
    assert path.read_bytes() == written, "it is not idempotent"


def test_a_file_of_pyarrow_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    write(path, [("a", "VARCHAR[]"), ("b", "BIGINT")], 2)
    pq.write_table(pq.read_table(path), path)
    before = path.read_bytes()
    annotate_lists(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no footer of Parquet", b"PAR1\x15\x02\xff\xff\xff\x7fPAR1"])
def test_a_file_that_is_no_parquet_file_is_refused_and_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.parquet"
    path.write_bytes(content)
    with pytest.raises(UnknownFooterError, match=r"bytes|footer"):
        annotate_lists(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("footer", "message"),
    [
        (b"", "ends too early"),
        (b"\x15\x02\x19", "ends too early"),
        (b"\x00", "no version"),
        (b"\x25\x02", "begins with field 2"),
        (b"\x15\x02\x15\x02", "not the schema"),
        (b"\x15\x02\x19\x15", "elements of type 5"),
        (b"\x15\x02\x19\x1c\x1b", "a field of type 11"),
    ],
)
def test_a_footer_of_another_form_is_refused(footer: bytes, message: str) -> None:
    with pytest.raises(UnknownFooterError, match=message):
        with_list_types(footer)
