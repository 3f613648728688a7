"""How many rows a row group has, how lists are written, and the bounds of columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import BinaryType, DoubleType, ListType, LongType, NestedField, PrimitiveType, StringType

from ddb_lake.engine.session import connect
from ddb_lake.lake import file_writer
from ddb_lake.lake.file_writer import ROW_GROUP_BYTES, ROW_GROUP_ROWS, FileWriter, group_rows


@pytest.mark.parametrize(
    ("row_bytes", "expected"),
    [(0, ROW_GROUP_ROWS), (600, ROW_GROUP_ROWS), (20_000, 4_096), (400_000, 2_048), (2 * ROW_GROUP_BYTES, 2_048)],
)
def test_group_rows_are_whole_vectors_that_fit(row_bytes: int, expected: int) -> None:
    assert group_rows(row_bytes) == expected


# --- lists


class FolderIO(PyArrowFileIO):
    """Objects of a store, as files in a folder. `fails_at`: the number of the object whose writing fails."""

    def __init__(self, folder: Path, fails_at: int | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.fails_at = fails_at
        self.written: list[str] = []

    def path(self, location: str) -> str:
        return location.replace("s3://store", str(self.folder))

    def new_output(self, location: str) -> PyArrowFile:
        self.written.append(location)
        if len(self.written) == self.fails_at:
            raise OSError("the store does not answer")
        return super().new_output(self.path(location))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        assert isinstance(location, str)
        super().delete(self.path(location))


LISTS = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "tags", ListType(3, StringType(), element_required=False), required=False),
)
ROWS = "SELECT i AS id, ['a', NULL] AS tags FROM range(200000) r(i)"


@pytest.fixture
def con() -> Iterator[Any]:
    with connect() as session:
        yield session.con


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("location", ["s3://store/table", "local"])
def test_lists_have_the_logical_type_in_files_and_objects(con: Any, tmp_path: Path, location: str, split: bool) -> None:
    io = FolderIO(tmp_path)
    root = location if "://" in location else str(tmp_path / location)
    paths = FileWriter(con, io, root, LISTS).write_paths(ROWS, split=split)
    assert [path.startswith(f"{root}/data/") and path.endswith(".parquet") for path in paths] == [True]
    (path,) = map(io.path, paths)
    assert pq.ParquetFile(path).metadata.num_rows == 200_000
    types = con.execute("SELECT name, logical_type FROM parquet_schema(?) WHERE converted_type = 'LIST'", [path])
    assert types.fetchall() == [("tags", "ListType()")]
    assert (io.written == paths) is ("://" in location), "only an object is written by way of a local file"


def test_no_rows_with_lists_leave_no_object(con: Any, tmp_path: Path) -> None:
    io = FolderIO(tmp_path)
    assert FileWriter(con, io, "s3://store/table", LISTS).write_paths(f"{ROWS} WHERE false") == []
    assert io.written == []


def test_objects_are_removed_if_a_later_one_fails(con: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_writer, "TARGET_FILE_BYTES", 1)
    io = FolderIO(tmp_path, fails_at=2)
    with pytest.raises(OSError, match="does not answer"):
        FileWriter(con, io, "s3://store/table", LISTS).write_paths(ROWS, split=True)
    assert len(io.written) == 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# --- bounds


@pytest.mark.parametrize(
    ("kind", "ordinary", "odd"),
    [
        (StringType(), "chr(97 + (i // 2048)::INTEGER)", "repeat(chr(1114111), 200)"),
        (BinaryType(), "encode(chr(97 + (i // 2048)::INTEGER))", "repeat('\\xFF'::BLOB, 300)"),
        (DoubleType(), "(i // 2048)::DOUBLE", "'nan'::DOUBLE"),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", [None, 0, 3_000, 6_143], ids=str)
def test_a_file_has_no_bounds_that_exclude_its_values(
    con: Any, tmp_path: Path, kind: PrimitiveType, ordinary: str, odd: str, place: int | None
) -> None:
    """The row group of an odd value has no least and greatest value, and its other values are in no other row group."""
    schema = Schema(
        NestedField(1, "value", kind, required=False), NestedField(2, "filler", StringType(), required=False)
    )
    folder = tmp_path.as_posix()
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, folder)
    value = ordinary if place is None else f"CASE WHEN i = {place} THEN {odd} ELSE {ordinary} END"
    writer = FileWriter(con, PyArrowFileIO(), folder, metadata.schema())
    (entry,) = writer.write(
        f"SELECT {value} AS value, NULL::VARCHAR AS filler FROM range(6144) r(i)", metadata, row_bytes=400_000
    )
    footer = pq.ParquetFile(entry.file_path).metadata
    assert footer.num_row_groups == 3
    assert (entry.value_counts[1], entry.null_value_counts[1], entry.null_value_counts[2]) == (6144, 0, 6144)
    assert (1 in entry.lower_bounds, 1 in entry.upper_bounds) == (place is None, place is None)


@pytest.mark.parametrize("character", [0xD7FE, 0xD7FF, 0xE000, 0x10FFFF], ids=hex)
def test_bounds_of_texts_include_the_values(con: Any, tmp_path: Path, character: int) -> None:
    schema = Schema(NestedField(1, "value", StringType(), required=False))
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, tmp_path.as_posix())
    writer = FileWriter(con, PyArrowFileIO(), tmp_path.as_posix(), metadata.schema())
    texts = [start + chr(character) * count for start in ("", "a") for count in (1, 15, 16, 40)]
    for text in texts:
        (entry,) = writer.write(f"SELECT unnest(['a', '{text}']) AS value", metadata)
        assert entry.lower_bounds[1].decode() <= min("a", text)
        if 1 in entry.upper_bounds:
            assert entry.upper_bounds[1].decode() >= max("a", text)
        else:
            assert text[:16] == chr(0x10FFFF) * 16, "no text of 16 characters is greater"
