"""Counts of Kinesis and Firehose against the ledger, in the sandbox: what is lost is found without reading the source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify.conservation import NotComparedError, compare_counts, is_certain
from ddb_lake.pipeline.verify.gap_repair import repair_gaps
from ddb_lake_tests.support.sandbox_lake import BUCKET, assert_lake_is_source, orders_lake, orders_source
from ddb_lake_tests.support.verified_source import LANDING, Stand


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    uri = f"s3://{BUCKET}/{LANDING}"
    with orders_source(monkeypatch) as sandbox, orders_lake(sandbox, tmp_path, changes={"uri": uri}) as lake:
        stand = Stand(sandbox, lake)
        for number in range(40):
            stand.put(f"o{number}", total="1")
        stand.deliver()
        stand.wait(5)
        load_export(lake, "orders", stand.export())
        yield stand


def change(stand: Stand, inserts: int, updates: int) -> list[str]:
    """Insert and update items. Returns the names of the objects in which the changes land."""
    for number in range(inserts):
        stand.put(f"new{number}", total="2")
    for number in range(updates):
        stand.put(f"o{number % 40}", total=str(stand.sandbox.clock.now_us()))
    return [f"s3://{BUCKET}/{key}" for key in stand.hose.flush()]


def test_object_that_is_removed_before_it_is_applied_is_missed_and_repaired(stand: Stand) -> None:
    table = stand.lake.table("orders")
    with pytest.raises(NotComparedError, match="no whole hour after"):
        compare_counts(stand.lake, table)
    stand.wait(40)
    lost = change(stand, inserts=4, updates=60)
    for uri in lost:
        stand.sandbox.client("s3").delete_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))
    stand.wait(10)
    (waiting,) = change(stand, inserts=0, updates=30)
    stand.wait(120)
    unapplied = compare_counts(stand.lake, table)
    assert (unapplied.waiting, is_certain(unapplied), open_gaps(stand.lake, "orders")) == (1, False, ())
    apply_objects(stand.lake, "orders", [waiting])
    found = compare_counts(stand.lake, table)
    assert found.accepted is not None and is_certain(found)
    (delivered,) = found.delivered
    assert (found.accepted.found.counted, found.accepted.found.held, found.accepted.found.missing) == (94, 30, 64)
    assert (delivered.service, delivered.found.missing) == ("the delivery stream hose", 64)
    assert found.facts == {"new": 30, "duplicates": 0, "rejected": 0, "of other tables": 0}
    (gap,) = open_gaps(stand.lake, "orders")
    assert gap.kind == "lost" and gap.from_us < found.accepted.found.shortages[0].from_us
    assert repair_gaps(stand.lake, "orders").left == ()
    assert_lake_is_source(stand.lake, stand.sandbox)
    after = compare_counts(stand.lake, table)
    assert after.accepted is not None
    assert (after.accepted.found.shortages, after.accepted.found.repaired) == ((), 64)


def test_anchor_is_stored_once_a_day_has_balanced_and_comparison_goes_on_from_there(stand: Stand) -> None:
    table = stand.lake.table("orders")
    stand.wait(60)
    apply_objects(stand.lake, "orders", change(stand, inserts=1, updates=20))
    stand.wait(30 * 60)
    first = compare_counts(stand.lake, table)
    assert first.accepted is not None and not first.accepted.found.shortages
    assert changes_state(stand.lake.changes("orders")).balanced is None
    stand.wait(24 * 60)
    apply_objects(stand.lake, "orders", change(stand, inserts=0, updates=20))
    stand.wait(120)
    compare_counts(stand.lake, table)
    again = compare_counts(stand.lake, table)
    stored = changes_state(stand.lake.changes("orders")).balanced
    assert stored is not None and again.from_us == stored.until_us
    assert set(stored.surplus) == {"kinesis:changes", "firehose:hose"}
