"""Several readers, processes or threads, stage what one does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.core.decode.routing import Routes
from ddb_lake.core.values.json_schema import Rule, Validator
from ddb_lake.errors import TransientError, UnreachableError
from ddb_lake.pipeline.apply import parallel_reader
from ddb_lake.pipeline.apply.object_reader import GroupReader, ReadOptions, StagedGroup, TableDefinition, fetch, only
from ddb_lake.pipeline.apply.parallel_reader import ReadPlan, read_parallel
from ddb_lake_tests.support.kinesis_lines import record
from ddb_lake_tests.support.staged_objects import record_kernel

pytestmark = pytest.mark.usefixtures("no_source")

NARROW = Validator([Rule({"properties": {"n": {"maximum": 20}}})])


@pytest.fixture
def landed(tmp_path: Path) -> list[ObjectRef]:
    """Ten objects with good records, records of a table that is not configured, and garbage."""
    folder = tmp_path / "landed"
    folder.mkdir()
    for place in range(10):
        records = [record(place * 100 + n, "other" if n % 10 == 3 else "orders") for n in range(100)]
        lines = [json.dumps(each, separators=(",", ":")) for each in records]
        (folder / f"{place}.gz").write_bytes(gzip.compress("\n".join([*lines, '{"broken']).encode()))
    return list(ObjectStore().list(str(folder)))


@pytest.fixture(autouse=True)
def small_groups_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_reader, "PARALLEL_BYTES", 1)
    monkeypatch.setattr(parallel_reader, "cpu_count", lambda: 3)


def plan(
    folder: Path,
    routes: dict[str, str] | None = None,
    key: tuple[str, ...] = ("id",),
    validator: Validator | None = NARROW,
) -> ReadPlan:
    """By default, the table has a JSON Schema, so processes read; threads do if the validator is None."""
    folder.mkdir()
    options = ReadOptions("orders", Routes(routes or {"orders": "orders"}))
    return ReadPlan(folder, options, TableDefinition(key, validator))


def contents(group: StagedGroup) -> list[Any]:
    rows = group.tables["orders"]
    read = [
        sorted(duckdb.execute(f"SELECT * FROM read_parquet('{stage.path}')").fetchall(), key=str)
        for stage in (rows.changes, rows.quarantine)
    ]
    counts = (rows.changes.rows, rows.quarantine.rows, rows.records, group.other_tables, group.objects)
    return [*read, *counts]


def test_several_readers_stage_what_one_does(landed: list[ObjectRef], tmp_path: Path) -> None:
    shared = read_parallel(plan(tmp_path / "several"), landed)
    one = plan(tmp_path / "one")
    reader = GroupReader(one.folder, one.options, only({"orders": one.definition}))
    alone = reader.read(fetch(ObjectStore(), landed))
    assert shared is not None
    assert contents(shared) == contents(alone)
    assert alone.tables["orders"].quarantine.rows > 10, "the schema's offenders are among them"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small groups are read by threads."""
    monkeypatch.setattr(parallel_reader, "THREADS_BYTES", 1)
    with record_kernel("on"):
        yield


def no_process(*_arguments: Any) -> None:
    raise AssertionError("threads read the group")


def test_threads_stage_what_one_reader_does_without_the_kernel(
    landed: list[ObjectRef], tmp_path: Path, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_reader, "_start", no_process)
    shared = read_parallel(plan(tmp_path / "several", validator=None), landed)
    one = plan(tmp_path / "one", validator=None)
    with record_kernel("off"):
        reader = GroupReader(one.folder, one.options, only({"orders": one.definition}))
        alone = reader.read(fetch(ObjectStore(), landed))
    assert shared is not None
    assert contents(shared) == contents(alone)
    assert alone.tables["orders"].changes.rows == 900


def test_processes_read_a_group_if_the_kernel_leaves_much_of_it_to_python(
    landed: list[ObjectRef], tmp_path: Path, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_reader, "FEW_RECORDS", 10)  # 11 of 101 records are of another table, or garbage
    started = []
    start = parallel_reader._start
    monkeypatch.setattr(parallel_reader, "_start", lambda *task: (started.append(task), start(*task))[1])
    shared = read_parallel(plan(tmp_path / "several", validator=None), landed)
    monkeypatch.setattr(parallel_reader, "MOST_LEFT", 0.5)
    by_threads = read_parallel(plan(tmp_path / "threads", validator=None), landed)
    assert shared is not None
    assert by_threads is not None
    assert len(started) == 3
    assert contents(shared) == contents(by_threads)


def test_an_object_that_is_gone_stops_all_threads(landed: list[ObjectRef], tmp_path: Path, threads: None) -> None:
    Path(landed[7].uri).unlink()
    with pytest.raises(UnreachableError) as raised:
        read_parallel(plan(tmp_path / "lost", validator=None), landed)
    assert raised.value.uri == landed[7].uri


@pytest.mark.parametrize("validator", [NARROW, None])
def test_records_of_a_second_table_are_left_to_one_reader(
    landed: list[ObjectRef], tmp_path: Path, threads: None, validator: Validator | None
) -> None:
    routes = {"orders": "orders", "other": "others"}
    assert read_parallel(plan(tmp_path / "two", routes, validator=validator), landed) is None


def test_a_reader_that_dies_is_an_error_that_can_be_tried_again(
    landed: list[ObjectRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_reader, "__name__", "ddb_lake.no_such_module")
    with pytest.raises(TransientError, match="a reading process ended"):
        read_parallel(plan(tmp_path / "dead"), landed)


def test_an_object_that_is_gone_is_an_error_that_names_it(landed: list[ObjectRef], tmp_path: Path) -> None:
    Path(landed[7].uri).unlink()
    with pytest.raises(UnreachableError) as raised:
        read_parallel(plan(tmp_path / "lost"), landed)
    assert raised.value.uri == landed[7].uri


def test_shares_are_of_about_equal_size(landed: list[ObjectRef]) -> None:
    refs = [replace(ref, size_bytes=size) for ref, size in zip(landed, [9, 1, 1, 1, 1, 1, 1, 1, 1, 1], strict=True)]
    shares = parallel_reader._shares(refs, 2)
    assert [[number for number, _ in share] for share in shares] == [[0], [1, 2, 3, 4, 5, 6, 7, 8, 9]]


def test_a_small_group_is_read_by_one_process(
    landed: list[ObjectRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_reader, "PARALLEL_BYTES", 1 << 30)
    assert read_parallel(plan(tmp_path / "small"), landed) is None


def test_while_the_key_is_not_known_one_process_finds_it(landed: list[ObjectRef], tmp_path: Path) -> None:
    assert read_parallel(plan(tmp_path / "unknown", key=()), landed) is None
