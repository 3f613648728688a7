"""Batches that DynamoDB takes, and the mark of a restore."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.operations.restore_batches import BATCH_BYTES, BATCH_ITEMS, RestoreProgress, batches


@given(st.lists(st.integers(1, BATCH_BYTES // 2), max_size=120))
def test_batches_keep_order_and_limits(sizes: list[int]) -> None:
    found = list(batches((number, {}, size) for number, size in enumerate(sizes)))
    assert [entry[0] for batch in found for entry in batch] == list(range(len(sizes)))
    assert all(len(batch) <= BATCH_ITEMS and sum(e[2] for e in batch) <= BATCH_BYTES for batch in found)


def test_mark_survives_storing_and_knows_its_restore() -> None:
    mark = RestoreProgress("orders", "copy", 5, "3/abc", after_hash=9, written=3)
    assert RestoreProgress.load(mark.dump()) == mark
    assert mark.restores_same(RestoreProgress("orders", "copy", 5, "3/abc"))
    assert not mark.restores_same(RestoreProgress("orders", "copy", 5, "4/abd"))
