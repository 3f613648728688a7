"""Limits of Spark's tasks for tests."""

from __future__ import annotations

import pytest

from ddb_lake.lake import compaction_policy
from ddb_lake.spark import changelog, entities, merge, object_reader, scan_tasks, scratch, snapshot_writer


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of tasks and buckets, so small that a few rows exceed them."""
    for module, limits in {
        changelog: {"ONE_TASK_ROWS": 2, "BUCKET_ROWS": 5},
        merge: {"BUCKET_RECORDS": 4, "LEAST_RECORDS": 2, "PART_ROWS": 3, "PART_BYTES": 2000, "POSITIONS_ROWS": 3},
        entities: {"PART_BYTES": 5000, "LEAST_PART_BYTES": 1, "POSITIONS_ROWS": 2},
        object_reader: {"LEAST_BYTES": 1},
        snapshot_writer: {"BUCKET_HASHES": 3},
        scratch: {"HELD_BYTES": 1000, "GROUP_BYTES": 500},
        scan_tasks: {"PART_BYTES": 5000},
        compaction_policy: {"MAX_FILES_PER_HOUR": 1, "MAX_FILES_PER_DAY": 1, "MAX_FILES_OF_LATEST_HOUR": 1},
    }.items():
        for name, limit in limits.items():
            monkeypatch.setattr(module, name, limit)
