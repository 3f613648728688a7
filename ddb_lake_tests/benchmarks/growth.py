"""What a small apply costs on a lake with a long history, by the same on a fresh lake.

    python -m ddb_lake_tests.benchmarks.growth FOLDER --files 100000 --applies 20

The history is not applied record by record. Its manifests, snapshots and ledger are real, and the files of the changelog that the
manifests name do not exist: an apply that opened one of them would fail. Both lakes have the same rows in `current`. Each prints
the processor time of one apply (the median), and the last line has both and the ratio beside the goal.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake.commit import LARGE_MANIFEST_FILES, Delta
from ddb_lake.lake.metadata_files import snapshot_manifests
from ddb_lake.lake.state import CurrentState, changes_state
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.apply.deduplication import Figures
from ddb_lake.pipeline.apply.ledger import add_objects, ledger_rows, read_ledger
from ddb_lake.pipeline.apply.object_reader import IngestedObject
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.benchmarks.goals import GROWTH_LIMIT
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, item, land

KEYS = 1_000
RECORDS = 20
OBJECTS = (8_192, 1_024, 512, 200, 64, 8)
"""The objects of the history in the ledger: 10,000, in files of these numbers."""


def main() -> None:
    """Measure both lakes, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=100_000, help="files of the changelog in the history")
    parser.add_argument("--applies", type=int, default=20, help="measured applies of each lake")
    chosen = parser.parse_args()
    fresh = _measure(chosen.folder / "fresh", 0, chosen.applies)
    grown = _measure(chosen.folder / "grown", chosen.files, chosen.applies)
    figures = {"fresh_cpu_ms": fresh, "grown_cpu_ms": grown, "ratio": round(grown / fresh, 2), "goal": GROWTH_LIMIT}
    print(json.dumps(figures), flush=True)


def _measure(folder: Path, files: int, applies: int) -> float:
    """The median processor time of an apply, in milliseconds. It is printed with the size of the lake."""
    settings = parse_settings(
        {"warehouse": str(folder / "lake"), "tables": [{"name": "orders", "key": ["id"]}]}, "the benchmark"
    )
    with open_lake(settings) as lake:
        _apply(lake, folder, 0, range(KEYS))
        if files:
            _add_history(lake, files)
        took = [_apply(lake, folder, number, _keys(number)) for number in range(1, applies + 1)]
        changes, current = lake.changes("orders"), lake.current("orders")
        assert changes is not None and current is not None
        sizes = {
            "snapshots": len(changes.snapshots()),
            "manifests": _manifests(changes),
            "objects": read_ledger(lake, "orders").rows,
        }
    median = 1000 * statistics.median(took)
    print(json.dumps({"changelog_files": files + applies + 1, **sizes, "apply_cpu_ms": round(median, 1)}), flush=True)
    return median


def _keys(number: int) -> Iterator[int]:
    """The keys that change in an apply: half of them are new."""
    half = RECORDS // 2
    yield from range(number * half % KEYS, number * half % KEYS + half)
    yield from range(KEYS + number * half, KEYS + (number + 1) * half)


def _apply(lake: Lake, folder: Path, number: int, keys: Any) -> float:
    at_us = T0_US + number * MINUTE_US
    records = [change(at_us + key, item(f"key {key}", v=number)) for key in keys]
    landed = land(folder / "landing" / f"2026/03/01/09/{number:06d}", *records)
    before = process_time()
    apply_objects(lake, "orders", [landed])
    return process_time() - before


def _manifests(table: Table) -> int:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return len(snapshot_manifests(table.io, snapshot, table.name()[-1]))


# --- the history


def _add_history(lake: Lake, files: int) -> None:
    changes, current = lake.changes("orders"), lake.current("orders")
    assert changes is not None and current is not None
    (template,) = (task.file for task in changes.scan().plan_files())
    state = changes_state(changes)
    for first in range(0, files, LARGE_MANIFEST_FILES):
        last = min(first + LARGE_MANIFEST_FILES, files)
        added = [_file(changes, template, number, files) for number in range(first, last)]
        commit = lake.commit(changes)
        commit.snapshot(Delta(added=added))
        commit.set_properties(replace(state, batch=last + 1).properties())
        changes = commit.run()
    applied = replace(CurrentState.of(current), applied_batch=files + 1)
    for _ in range(lake.settings.snapshots.keep):
        commit = lake.commit(current)
        commit.snapshot(Delta())
        commit.set_properties(applied.properties())
        current = commit.run()
    with lake.session() as session:
        for count in OBJECTS:
            objects = [(number, _object(f"{count}/{number}")) for number in range(count)]
            rows = ledger_rows(lake, "orders", objects, Figures())
            add_objects(lake, session, "orders", rows, read_ledger(lake, "orders"))


def _file(changes: Table, template: DataFile, number: int, files: int) -> DataFile:
    """The manifest entry of a file of one minute and one batch, in the order of time before `T0_US`."""
    changed_us = T0_US - (files - number) * MINUTE_US
    hour = changed_us // HOUR_US
    lower, upper = dict(template.lower_bounds or {}), dict(template.upper_bounds or {})
    for name, low, high in (
        ("changed_at", changed_us, changed_us + MINUTE_US - 1),
        ("arrival_hour", hour * HOUR_US, hour * HOUR_US),
        ("_batch", number + 2, number + 2),
        ("event_name", "INSERT", "REMOVE"),
    ):
        field = changes.schema().find_field(name)
        lower[field.field_id] = to_bytes(field.field_type, low)
        upper[field.field_id] = to_bytes(field.field_type, high)
    return DataFile.from_args(
        content=template.content,
        file_path=f"{changes.location()}/data/history-{number}.parquet",
        file_format=template.file_format,
        partition=Record(hour),
        record_count=template.record_count,
        file_size_in_bytes=template.file_size_in_bytes,
        column_sizes=template.column_sizes,
        value_counts=template.value_counts,
        null_value_counts=template.null_value_counts,
        nan_value_counts=template.nan_value_counts,
        lower_bounds=lower,
        upper_bounds=upper,
        key_metadata=None,
        split_offsets=template.split_offsets,
        equality_ids=None,
        sort_order_id=None,
        spec_id=template.spec_id,
    )


def _object(name: str) -> IngestedObject:
    return IngestedObject(
        ObjectRef(f"/landing/history/{name}", "1", 100, T0_US), T0_US // HOUR_US * HOUR_US, 1, {"orders": (1, 0)}
    )


if __name__ == "__main__":
    main()
