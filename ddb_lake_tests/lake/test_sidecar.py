"""Rows beside a table, merged as they grow: always the rows of a dictionary, in few files."""

from __future__ import annotations

import itertools
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFileIO

from ddb_lake.lake.sidecar import ADDED_COLUMNS, LEDGER_COLUMNS, TOMBSTONE_COLUMNS, Sidecar, SidecarFile
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.iceberg_table import connection

NEWEST = "QUALIFY row_number() OVER (PARTITION BY _key ORDER BY batch DESC) = 1"

KEYS = st.integers(0, 12)
BATCHES = st.lists(st.dictionaries(KEYS, st.booleans(), max_size=8), max_size=10)


def a_table(folder: str) -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(location=folder), io=PyArrowFileIO())


def graves(batch: dict[int, bool], number: int) -> str:
    """A query of tombstones: key to whether it is removed."""
    connection().register(
        "graves",
        pa.table(
            {
                "_key": pa.array([f"key {key}" for key in batch], pa.string()),
                "_key_hash": pa.array(list(batch), pa.int64()),
                "changed_us": pa.array([1000 * number + key for key in batch], pa.int64()),
                "removed": pa.array(list(batch.values()), pa.bool_()),
                "batch": pa.array([number] * len(batch), pa.int64()),
            }
        ),
    )
    return "SELECT * FROM graves"


@examples(10, 40)
@given(batches=BATCHES)
def test_tombstones_are_those_of_a_dictionary_after_any_batches(batches: list[dict[int, bool]]) -> None:
    con = connection()
    with tempfile.TemporaryDirectory() as folder:
        table, sidecar = a_table(folder), Sidecar()
        expected: dict[str, tuple[bool, int]] = {}
        for number, batch in enumerate(batches, start=1):
            query = graves(batch, number)
            sidecar = sidecar.append(con, table, query, TOMBSTONE_COLUMNS, newest_by="batch")
            expected |= {f"key {key}": (removed, number) for key, removed in batch.items()}
            newest = con.execute(
                f"SELECT _key, removed, batch FROM {sidecar.sql(TOMBSTONE_COLUMNS)} {NEWEST}"
            ).fetchall()
            found = {key: (removed, batch) for key, removed, batch in newest if removed}
            assert found == {key: state for key, state in expected.items() if state[0]}
            assert_few_files(sidecar)
        assert sidecar == Sidecar.from_json(sidecar.to_json())


@examples(6, 25)
@given(sizes=st.lists(st.integers(0, 20), max_size=12))
def test_ledger_keeps_every_row_in_few_files(sizes: list[int]) -> None:
    con = connection()
    with tempfile.TemporaryDirectory() as folder:
        table, sidecar, total = a_table(folder), Sidecar(), 0
        for number, size in enumerate(sizes):
            query = (
                f"SELECT 'object ' || {number} || '-' || range AS object, 'v' AS version, range AS size_bytes,"
                f" TIMESTAMP '2026-03-01' AS arrival_hour, 1 AS records, 1 AS new, 0 AS rejected, 0 AS other_tables,"
                f" TIMESTAMP '2026-03-01' AS landed_at, TIMESTAMP '2026-03-01' AS ingested_at FROM range({size})"
            )
            sidecar = sidecar.append(con, table, query, LEDGER_COLUMNS)
            total += size
            rows = con.execute(f"SELECT count(*), count(DISTINCT object) FROM {sidecar.sql(LEDGER_COLUMNS)}").fetchone()
            assert rows == (total, total) == (sidecar.rows, sidecar.rows)
            assert_few_files(sidecar)
        assert len(list(Path(folder, "sidecar").glob("*"))) <= 2 * len(sizes), "an empty file is left behind"


def test_ledger_of_an_earlier_release_has_no_value_in_the_columns_that_it_lacks() -> None:
    con = connection()
    before = {name: kind for name, kind in LEDGER_COLUMNS.items() if name not in ADDED_COLUMNS}
    row = "SELECT 'o' AS object, 'v' AS version, 1 AS size_bytes, TIMESTAMP '2026-03-01' AS arrival_hour, 7 AS records"
    added = ", 5 AS new, 1 AS rejected, 1 AS other_tables, NULL::TIMESTAMP AS landed_at, NULL::TIMESTAMP AS ingested_at"
    with tempfile.TemporaryDirectory() as folder:
        table = a_table(folder)
        old = Sidecar().append(con, table, row, before)
        query = "SELECT records, new, rejected FROM {} ORDER BY new NULLS FIRST"
        assert con.execute(query.format(old.sql(LEDGER_COLUMNS))).fetchall() == [(7, None, None)]
        both = old.append(con, table, row + added, LEDGER_COLUMNS)
        assert len(both.files) == 1, "the files were merged"
        assert con.execute(query.format(both.sql(LEDGER_COLUMNS))).fetchall() == [(7, None, None), (7, 5, 1)]


def assert_few_files(sidecar: Sidecar) -> None:
    """Each file has more than twice the rows of the next."""
    counts = [file.rows for file in sidecar.files]
    assert all(left > 2 * right > 0 for left, right in itertools.pairwise(counts))
    assert len(counts) <= 1 + math.log2(sum(counts) + 1)


def test_nothing_appended_is_no_file() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sidecar = Sidecar((SidecarFile("elsewhere", 3),))
        query = graves({}, 1)
        assert sidecar.append(connection(), a_table(folder), query, TOMBSTONE_COLUMNS, newest_by="batch") is sidecar
        assert list(Path(folder).rglob("*.parquet")) == []


def test_empty_sidecar_is_an_empty_relation_of_its_columns() -> None:
    relation = connection().execute(f"SELECT * FROM {Sidecar().sql(TOMBSTONE_COLUMNS)}")
    assert [column[0] for column in relation.description] == list(TOMBSTONE_COLUMNS)
    assert relation.fetchall() == []
