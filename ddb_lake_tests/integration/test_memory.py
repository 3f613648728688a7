"""Memory is bounded by the `memory` setting and not by the data: each stage in a process of its own, and its peak."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ddb_lake_tests.benchmarks.data import KEY, TABLE, make_changes, make_export

ITEMS = 500_000
CHANGES = 40_000
LARGE = 1_200
"""Items of nearly 400 KB, half a gigabyte of JSON."""

DOCUMENTS = 40_000
"""Items of 20 KB. A run of them, which is sorted, takes nearly as much as the limit allows."""

BESIDE_DOCUMENTS_MB = 400

DENSE = 1_500
"""Changes of 60 KB each, in one group."""

DENSE_MB = 500

DEFAULT_MB = 1000
BESIDE_LARGE_MB = 600
"""Python holds copies of rows that it gets from DuckDB: a hundred items are 40 MB, several times."""
MEMORY_MB = 320
BESIDE_DUCKDB_MB = 420
"""Python, pyarrow, pyiceberg, boto3, and the buffers of DuckDB's readers and writers that its limit does not count."""

_STAGE = """
import json, sys
from ddb_lake.config import parse_settings
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.peak_memory import peak_mb

stage, table, uri, settings = sys.argv[1:]
with open_lake(parse_settings(json.loads(settings), "test")) as lake:
    if stage == "load":
        print(load_export(lake, table, uri).rows)
    elif stage == "apply":
        print(apply_objects(lake, table, [uri]).current[table].rows)
    elif stage == "compact":
        print(table_status(lake, table).rows if not compact_table(lake, table, force=True).skipped else None)
    else:
        print(sum(1 for _ in dump_items(lake, table)))
print(int(peak_mb()))
"""


def measured(stage: str, uri: Path, warehouse: Path, memory_mb: int = MEMORY_MB) -> tuple[int, int]:
    """Rows afterwards, and the process's peak of resident memory."""
    settings = {
        "warehouse": str(warehouse),
        "memory": f"{memory_mb}MB",
        "tables": [{"name": TABLE, "key": list(KEY)}],
    }
    command = [sys.executable, "-c", _STAGE, stage, TABLE, str(uri), json.dumps(settings)]
    rows, peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return int(rows), int(peak)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory")


@pytest.mark.exhaustive
def test_each_stage_keeps_to_the_memory_it_is_given(folder: Path) -> None:
    export, landed = make_export(folder, ITEMS), make_changes(folder, ITEMS, CHANGES, 1)
    peaks = {}
    for stage, uri in (("load", export), ("apply", landed), ("compact", folder), ("dump", folder)):
        rows, peaks[stage] = measured(stage, uri, folder / "lake")
        assert rows == ITEMS
    assert {stage: peak for stage, peak in peaks.items() if peak > MEMORY_MB + BESIDE_DUCKDB_MB} == {}, peaks


@pytest.mark.exhaustive
def test_items_as_large_as_they_can_be_need_no_more_than_the_default(folder: Path) -> None:
    export, landed = make_export(folder, LARGE, "large"), make_changes(folder, LARGE, LARGE // 2, 1, shape="large")
    peaks = {}
    for stage, uri in (("load", export), ("apply", landed), ("compact", folder), ("dump", folder)):
        rows, peaks[stage] = measured(stage, uri, folder / "large", DEFAULT_MB)
        assert rows == LARGE
    assert {stage: peak for stage, peak in peaks.items() if peak > DEFAULT_MB + BESIDE_LARGE_MB} == {}, peaks


@pytest.mark.exhaustive
def test_documents_that_follow_each_other_in_sorted_runs(folder: Path) -> None:
    """The memory of a run is free before the next run begins."""
    export = make_export(folder, DOCUMENTS, "documents")
    rows, peak = measured("load", export, folder / "documents", DEFAULT_MB)
    assert rows == DOCUMENTS
    assert peak <= DEFAULT_MB + BESIDE_DOCUMENTS_MB, peak


def test_many_large_changes_are_merged_in_portions(folder: Path) -> None:
    """Each thread holds what it makes of the rows that it reads at once: two of whole row groups need 800 MB."""
    landed = make_changes(folder, DENSE, DENSE, 1, objects=3, shape="dense")
    rows, peak = measured("apply", landed, folder / "dense", DENSE_MB)
    assert 0 < rows <= DENSE
    assert peak <= DENSE_MB + BESIDE_LARGE_MB, peak
