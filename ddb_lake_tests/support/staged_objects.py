"""What a `GroupReader` stages of some objects, by each of the ways to read them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pytest

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.engine.native.compiler import SOURCE, CompilerError, compile_kernel
from ddb_lake.engine.native.library import LIBRARY, SWITCH, load
from ddb_lake.pipeline.apply.object_reader import StagedGroup
from ddb_lake_tests.support.group_reader import group_reader

WAYS = ("strict", "fast", "native")
"""Strict reading; the fast path in Python; the record kernel, which leaves some records to the fast path."""


def build_record_kernel() -> None:
    """Compile the record kernel if this checkout has none, or one of an older source. Skips the test if nothing compiles."""
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:
        try:
            compile_kernel(LIBRARY)
        except CompilerError as error:
            pytest.skip(f"no record kernel: {error}")


@contextmanager
def record_kernel(switch: str) -> Iterator[None]:
    """Turn the record kernel on or off, in this process and in those that it starts."""
    if switch == "on":
        build_record_kernel()
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = switch
    load.cache_clear()
    try:
        assert switch == "off" or load().library is not None, f"no record kernel: {load().reason}"
        yield
    finally:
        load.cache_clear()
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


def staged(objects: Sequence[bytes], key: tuple[str, ...], way: str, modified_us: int = 0) -> tuple[list[Any], Any]:
    """The rows that reading some objects stages, and what else the reader found. `modified_us`: of each object."""
    refs = [
        ObjectRef(f"s3://bucket/landing/{number}", "1", len(data), modified_us) for number, data in enumerate(objects)
    ]
    with tempfile.TemporaryDirectory() as folder, record_kernel("on" if way == "native" else "off"):
        routes = {"orders": "orders", "other": "others"}
        reader = group_reader(folder, "orders", key, fast=way != "strict", routes=routes)
        group = reader.read(zip(refs, objects, strict=True))
        # the key of a table is also looked up if its only record is invalid
        keys = {table: key for table, key in reader.keys.items() if table in group.tables}
        return rows(group), (group.objects, group.other_tables, keys)


def rows(group: StagedGroup) -> list[Any]:
    """The staged rows by table: changes, then the quarantine, in a fixed order."""
    found = []
    with duckdb.connect() as con:
        for table, stages in sorted(group.tables.items()):
            for stage in (stages.changes, stages.quarantine):
                read = con.execute(f"SELECT * FROM read_parquet('{stage.path}') ORDER BY ALL").fetchall()
                found.append((table, stage.rows, +stages.records, read))
                assert stage.rows == len(read)
    return found
