"""Staged rows deduplicated and written by the functions that tasks run, here without Spark."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFileIO

from ddb_lake.core.values.erased_keys import ErasedKeys
from ddb_lake.engine.session import connect
from ddb_lake.lake.schemas import CHANGES_COLUMNS, fixed_schema
from ddb_lake.pipeline.apply.deduplication import RECORD_IDENTITY, ChangesWrite, Figures
from ddb_lake.spark.access import TableAccess
from ddb_lake.spark.record_tasks import (
    FindRepeated,
    Ids,
    ScanIds,
    StagedFile,
    WriteNew,
    find_repeated,
    scan_ids,
    write_new,
)
from ddb_lake.spark.scratch import ScratchFolder, ScratchRows, delete_files, names_of
from ddb_lake_tests.support.effort import examples

HOUR_US = 3_600_000_000
SCHEMA = fixed_schema(CHANGES_COLUMNS)


@given(st.lists(st.tuples(st.sampled_from(["INSERT", "MODIFY"]), st.integers(-5, 5), st.integers(1, 9)), max_size=9))
def test_figures_of_parts_add_up_in_any_order(parts: list[tuple[str, int, int]]) -> None:
    figures = [Figures(n, _counted("h", n), _counted(event, n), us, us, frozenset({event})) for event, us, n in parts]
    whole = sum(figures, Figures())
    assert whole == sum(random.Random(1).sample(figures, len(figures)), Figures())
    assert whole.new == whole.staged == sum(n for _, _, n in parts)
    assert (whole.first_us, whole.last_us) == (
        (min(us for _, us, _ in parts), max(us for _, us, _ in parts)) if parts else (None, None)
    )


def test_files_that_an_erasure_deleted_do_not_hinder_the_deletion_of_the_others(tmp_path: Path) -> None:
    """Guards the error of the step that is in progress: an error of its clean-up would hide it."""
    (tmp_path / "left.parquet").touch()
    delete_files(PyArrowFileIO(), [f"{tmp_path}/gone.parquet", f"file://{tmp_path}/left.parquet"])
    assert not list(tmp_path.iterdir())


def _counted(name: str, rows: int) -> Counter[str]:
    return Counter({name: rows})


ROWS = st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2))


@examples(6, 25)
@given(
    st.lists(ROWS, min_size=1, max_size=20, unique=True),
    st.sets(st.integers(0, 6), max_size=3),
    st.sets(st.integers(0, 3), max_size=2),
    st.integers(1, 3),
)
def test_rows_in_buckets_are_those_that_one_task_chooses(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int, int]],
    known: set[int],
    ingested: set[int],
    buckets: int,
) -> None:
    """`rows`: id, object and offset. Ids in `known` are in the changelog; objects in `ingested` do not count."""
    folder = tmp_path_factory.mktemp("rows")
    access = TableAccess(PyArrowFileIO(), str(folder), True, "200MB", 200_000_000)
    files = tuple(
        StagedFile(
            number,
            _staged(folder / f"{number}.parquet", [row for row in rows if row[1] % 2 == number]),
            tuple((o, o % 2 * HOUR_US) for o in range(4) if o % 2 == number and o not in ingested),
        )
        for number in range(2)
    )
    held = _staged(folder / "known.parquet", [(one, 9, 9) for one in sorted(known)])
    query = f"(SELECT record_id, changed_at FROM read_parquet('{held}'))"
    at_once = write_new(WriteNew(access, SCHEMA, RECORD_IDENTITY, files, None, query, ChangesWrite(1, ErasedKeys())))
    scratch = ScratchFolder(access.io, str(folder / "scratch"))
    ids = [*(Ids(RECORD_IDENTITY, file) for file in files), Ids(RECORD_IDENTITY, query)]
    scanned = ScratchRows(scratch, names_of(scan_ids(ScanIds(access, scratch, one, buckets)) for one in ids))
    in_buckets = [FindRepeated(access, scratch, RECORD_IDENTITY, scanned, bucket) for bucket in range(buckets)]
    for tasks in (in_buckets, [FindRepeated(access, scratch, RECORD_IDENTITY, tuple(ids))]):
        repeated = ScratchRows(scratch, names_of(map(find_repeated, tasks)))
        written = [
            write_new(WriteNew(access, SCHEMA, RECORD_IDENTITY, (f,), repeated, None, ChangesWrite(1, ErasedKeys())))
            for f in files
        ]
        assert _written([path for paths, _ in written for path in paths]) == _written(at_once[0])
        assert sum((figures for _, figures in written), Figures()) == at_once[1]
    counted = [row for row in rows if row[1] not in ingested]
    expected = sorted({min(r for r in counted if r[0] == one) for one, _, _ in counted if one not in known})
    assert _written(at_once[0]) == expected
    assert (at_once[1].staged, at_once[1].new) == (len(counted), len(expected))


def test_task_refuses_records_of_erased_keys(tmp_path: Path) -> None:
    """The task that writes rows removes those of erased keys, also if another task has found the repeated ones."""
    access = TableAccess(PyArrowFileIO(), str(tmp_path), True, "200MB", 200_000_000)
    rows = [(one, 0, one) for one in range(4)]
    file = StagedFile(0, _staged(tmp_path / "staged.parquet", rows), ((0, 0),))
    erased = ErasedKeys(("id",), "salt")
    erased = replace(erased, until_us={erased.digest("S1:1"): None, erased.digest("S1:2"): 1999})
    scratch = ScratchFolder(access.io, str(tmp_path / "scratch"))
    found = find_repeated(FindRepeated(access, scratch, RECORD_IDENTITY, (Ids(RECORD_IDENTITY, file),)))
    for repeated in (None, ScratchRows(scratch, names_of([found]))):
        write = ChangesWrite(1, erased)
        paths, figures = write_new(WriteNew(access, SCHEMA, RECORD_IDENTITY, (file,), repeated, None, write))
        assert [one for one, _, _ in _written(paths)] == [0, 2, 3]  # the record of key 2 is of a later time
        assert (figures.staged, figures.new, figures.refused) == (4, 3, 1)


def _staged(path: Path, rows: list[tuple[int, int, int]]) -> str:
    columns: dict[str, Any] = {name: [None] * len(rows) for name in CHANGES_COLUMNS if name != "arrival_hour"}
    columns |= {
        "record_id": [f"{one:032x}" for one, _, _ in rows],
        "event_name": ["INSERT"] * len(rows),
        "object": [str(number) for _, number, _ in rows],
        "changed_at": pa.array([one * 1000 for one, _, _ in rows], pa.timestamp("us")),
        "asserted_at": pa.nulls(len(rows), pa.timestamp("us")),
        "sequence_number": pa.nulls(len(rows), pa.string()),
        "stream": pa.nulls(len(rows), pa.string()),
        "_key": [f"S1:{one}" for one, _, _ in rows],
        "_object": pa.array([number for _, number, _ in rows], pa.int64()),
        "offset": pa.array([offset for _, _, offset in rows], pa.int64()),
    }
    del columns["_batch"]
    pq.write_table(pa.table(columns), path)
    return str(path)


def _written(paths: list[str]) -> list[tuple[int, int, int]]:
    if not paths:
        return []
    with connect(memory="200MB", threads=1) as session:
        rows = session.rows(f'SELECT record_id, object, "offset", epoch_us(arrival_hour) FROM read_parquet({paths})')
    assert all(hour == int(number) % 2 * HOUR_US for _, number, _, hour in rows)
    return sorted((int(one, 16), int(number), offset) for one, number, offset, _ in rows)
