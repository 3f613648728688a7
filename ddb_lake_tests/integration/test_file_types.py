"""Every file of an Iceberg table has the types, field ids and nullability of the table's schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
from pyiceberg.manifest import DataFileContent
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import LongType, NestedField, StringType

from ddb_lake.core.layout.table_names import ERASURES, ICEBERG_SUFFIXES
from ddb_lake.lake import compaction_policy
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.metadata_files import FILE_PATH_ID, POS_ID
from ddb_lake_tests.support.iceberg_readers import assert_iceberg_types
from ddb_lake_tests.support.readers_matrix import KINDS, NAME, TABLE, Steps, expected_types, tables, types_of
from ddb_lake_tests.support.several_tables import lake_of

DELETES = Schema(
    NestedField(FILE_PATH_ID, "file_path", StringType(), required=False),
    NestedField(POS_ID, "pos", LongType(), required=False),
)
"""Iceberg calls both required. Parquet files of DuckDB have no required columns; the test examines the values instead."""


def test_every_file_of_each_kind_of_commit_has_the_types_of_its_schema(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(compaction_policy, "MAX_FILES_OF_LATEST_HOUR", 1)  # the changelog is compacted too
    checked: set[str] = set()
    with written() as files, lake_of(tmp_path / "lake", TABLE) as lake:
        steps = Steps(lake, tmp_path)
        named: dict[str, set[str]] = {}
        for step in KINDS.values():
            step(steps)
            for path, schema in files.items():
                if path not in checked and Path(path).exists():
                    assert_iceberg_types(path, schema, complete=True)
                    checked.add(path)
            for table in tables(lake):
                named.setdefault(table.name()[-1], set()).update(files_of(table))
        assert expected_types() <= types_of(tables(lake))
    assert set(named) == {NAME + suffix for suffix in ICEBERG_SUFFIXES if suffix != ERASURES}, "a table was not written"
    assert set().union(*named.values()) <= checked, "a file of a table was not written by FileWriter, or not examined"


@contextmanager
def written() -> Iterator[dict[str, Schema]]:
    """The files that FileWriter, the only writer of files of tables, writes while the block runs; with their schemas."""
    files: dict[str, Schema] = {}
    write_paths, write_deletes = FileWriter.write_paths, FileWriter.write_deletes

    def record_paths(writer: FileWriter, *arguments: Any, **options: Any) -> list[str]:
        paths = write_paths(writer, *arguments, **options)
        files.update(dict.fromkeys(paths, writer.schema))
        return paths

    def record_deletes(writer: FileWriter, query: str) -> Any:
        entries = write_deletes(writer, query)
        files.update(dict.fromkeys((entry.file_path for entry in entries), DELETES))
        return entries

    with (
        mock.patch.object(FileWriter, "write_paths", record_paths),
        mock.patch.object(FileWriter, "write_deletes", record_deletes),
    ):
        yield files


def files_of(table: Table) -> set[str]:
    """All data files and delete files that any snapshot of the table names. Deletes have no NULL."""
    found = set()
    for snapshot in table.snapshots():
        for manifest in snapshot.manifests(table.io):
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                path = entry.data_file.file_path
                found.add(path)
                if entry.data_file.content == DataFileContent.POSITION_DELETES:
                    assert all(column.null_count == 0 for column in pq.read_table(path).columns), path
    return found
