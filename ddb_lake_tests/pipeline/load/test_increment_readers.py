"""Incremental exports: several processes read the data files, and the lake is that of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.errors import ExportError, TransientError
from ddb_lake.pipeline.apply import parallel_reader
from ddb_lake.pipeline.load.increments import readers_that_fit
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.increments import FILES, write_export
from ddb_lake_tests.support.lake_contents import contents, stray_files


def loaded(folder: Path, export: str, readers: int, monkeypatch: pytest.MonkeyPatch, reject: bool = False) -> Any:
    """All that a lake holds after the export was loaded, and how many processes read it."""
    started: list[int] = []
    start = parallel_reader._start

    def counted(plan: Any, objects: Any) -> Any:
        started.append(len(objects))
        return start(plan, objects)

    with monkeypatch.context() as patched, lake(folder, "orders", ["id"]) as opened:
        patched.setattr(parallel_reader, "_start", counted)
        patched.setattr(parallel_reader, "PARALLEL_BYTES", 1)
        patched.setattr(parallel_reader, "cpu_count", lambda: readers)
        result = load_export(opened, "orders", export, reject=reject)
        assert load_export(opened, "orders", export, reject=reject).already_loaded
        return (result.rows, result.quarantined, contents(opened, ["orders"])), started


def test_several_processes_load_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = write_export(tmp_path / "exports", bad=((1, '{"Keys":'), (3, '{"no":"record"}')))
    alone, none = loaded(tmp_path / "one", export, 1, monkeypatch, reject=True)
    shared, started = loaded(tmp_path / "several", export, 3, monkeypatch, reject=True)
    assert (none, len(started), sum(started)) == ([], 3, FILES)
    assert shared == alone
    assert alone[1] == 2, "the bad lines are in the quarantine"


def test_first_lines_without_a_record_are_named_in_the_order_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = write_export(tmp_path / "exports", bad=((0, '{"no":"record"}'), (1, '{"Keys":'), (3, "not JSON")))
    errors = []
    for readers in (1, 3):
        with pytest.raises(ExportError, match="3 lines of the export without a valid item") as raised:
            loaded(tmp_path / f"{readers}", export, readers, monkeypatch)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


@pytest.mark.exhaustive
def test_process_that_dies_leaves_nothing_and_the_load_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = write_export(tmp_path / "exports")
    alone, _ = loaded(tmp_path / "one", export, 1, monkeypatch)
    with monkeypatch.context() as patched, lake(tmp_path / "dead", "orders", ["id"]) as opened:
        patched.setattr(parallel_reader, "PARALLEL_BYTES", 1)
        patched.setattr(parallel_reader, "cpu_count", lambda: 2)
        patched.setattr(parallel_reader, "__name__", "ddb_lake.no_such_module")
        with pytest.raises(TransientError) as raised:
            load_export(opened, "orders", export)
        assert raised.value.hint == "run it again"
        assert opened.changes("orders") is None
        assert stray_files(opened, ["orders"]) == set()
    again, started = loaded(tmp_path / "dead", export, 2, monkeypatch)
    assert len(started) == 2
    assert again == alone


def test_processes_read_the_copies_whose_checksum_was_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data file that changes after the comparison does not change what is loaded."""
    export = write_export(tmp_path / "exports")
    alone, _ = loaded(tmp_path / "one", export, 1, monkeypatch)
    read = parallel_reader.read_parallel

    def changed_before(plan: Any, refs: Any) -> Any:
        copies = {ref: plan.folder / f"copy-{number}" for number, ref in enumerate(refs)}
        for ref, copy in copies.items():
            copy.write_bytes(plan.copies[ref].read_bytes())
            Path(ref.uri).write_text(json.dumps({"another": "text"}))
        return read(parallel_reader.replace(plan, copies=copies), refs)

    monkeypatch.setattr("ddb_lake.pipeline.load.increments.read_parallel", changed_before)
    monkeypatch.setattr(parallel_reader, "PARALLEL_BYTES", 1)
    monkeypatch.setattr(parallel_reader, "cpu_count", lambda: 2)
    with lake(tmp_path / "several", "orders", ["id"]) as opened:
        load_export(opened, "orders", export)
        assert contents(opened, ["orders"])["orders"]["items"] == alone[2]["orders"]["items"]


@pytest.mark.parametrize(
    ("sizes", "memory", "readers"),
    [([], 10, 1), ([11], 10, 1), ([5, 5, 5], 10, 2), ([9, 1, 1, 1], 10, 2), ([1, 1, 1], 10, 3)],
)
def test_as_many_processes_read_as_have_room_for_the_largest_files(sizes: list[int], memory: int, readers: int) -> None:
    assert readers_that_fit(sizes, memory) == readers
