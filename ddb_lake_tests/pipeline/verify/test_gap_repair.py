"""Gaps in the stream are noticed, recorded once, and closed by exports; all other changes stay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ddb_lake.checks.check import Subject
from ddb_lake.checks.gaps import no_gaps
from ddb_lake.pipeline.capture.gap_log import all_gaps, open_gaps
from ddb_lake.pipeline.capture.kinesis_monitor import watch
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify.gap_repair import repair_gaps
from ddb_lake_tests.support.sandbox_lake import BUCKET, assert_lake_is_source, orders_lake, orders_source
from ddb_lake_tests.support.verified_source import LANDING, Stand

METRIC = {"MetricName": "FailedToReplicateRecordCount", "Value": 2.0, "Unit": "Count"}


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    uri = f"s3://{BUCKET}/{LANDING}"
    with orders_source(monkeypatch) as sandbox, orders_lake(sandbox, tmp_path, changes={"uri": uri}) as lake:
        stand = Stand(sandbox, lake)
        stand.put("o1", total="1")
        stand.put("o2", total="2")
        stand.deliver()
        stand.wait(60)
        load_export(lake, "orders", stand.export())
        stand.wait(60)
        yield stand


def switch(stand: Stand, on: bool) -> None:
    arn = stand.sandbox.client("kinesis").describe_stream(StreamName="changes")["StreamDescription"]["StreamARN"]
    call = (
        stand.client.enable_kinesis_streaming_destination if on else stand.client.disable_kinesis_streaming_destination
    )
    call(TableName="orders", StreamArn=arn)


def test_stream_that_was_off_is_a_gap_that_incremental_exports_repair(stand: Stand) -> None:
    assert watch(stand.lake, "orders") == ()
    seen_us = stand.sandbox.clock.now_us()
    stand.wait(30)
    switch(stand, on=False)
    stand.put("o1", total="1.5")
    stand.delete("o2")
    stand.put("o3", total="3")
    stand.wait(10)
    (gap,) = watch(stand.lake, "orders")
    assert (gap.kind, gap.from_us < seen_us) == ("stream_off", True)
    stand.wait(10)
    switch(stand, on=True)
    (longer,) = watch(stand.lake, "orders")
    assert (longer.from_us, longer.to_us > gap.to_us) == (gap.from_us, True)
    stand.put("o4", total="4")
    stand.deliver()
    assert no_gaps(Subject(stand.lake, stand.lake.table("orders"))).state == "fail"
    early = repair_gaps(stand.lake, "orders")
    assert len(early.left) == 1 and early.again_us is not None
    stand.wait(30)
    result = repair_gaps(stand.lake, "orders")
    assert result.left == () and result.exports
    assert_lake_is_source(stand.lake, stand.sandbox)
    assert watch(stand.lake, "orders") == ()
    assert no_gaps(Subject(stand.lake, stand.lake.table("orders"))).state == "pass"
    assert all(g.repaired_by for g in all_gaps(stand.lake, "orders"))
    assert repair_gaps(stand.lake, "orders").exports == ()


def test_records_that_were_skipped_as_too_large_are_a_gap(stand: Stand) -> None:
    assert watch(stand.lake, "orders") == ()
    stand.put("o1", total="1.5")
    stand.deliver(lost=True)
    at = stand.sandbox.clock.now()
    dimensions = [{"Name": "TableName", "Value": "orders"}, {"Name": "DelegatedOperation", "Value": "PutRecord"}]
    data = [{**METRIC, "Timestamp": at, "Dimensions": dimensions}]
    stand.sandbox.client("cloudwatch").put_metric_data(Namespace="AWS/DynamoDB", MetricData=data)
    stand.wait(10)
    (gap,) = watch(stand.lake, "orders")
    assert gap.kind == "too_large" and "2 change records" in gap.reason
    assert gap.from_us <= int(at.timestamp() * 1e6) < gap.to_us
    stand.wait(60)
    assert repair_gaps(stand.lake, "orders").left == ()
    assert watch(stand.lake, "orders") == ()
    assert_lake_is_source(stand.lake, stand.sandbox)


def test_gap_that_recovery_does_not_reach_back_to_takes_a_full_export(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(stand.lake, "orders")
    switch(stand, on=False)
    stand.put("o1", total="1.5")
    watch(stand.lake, "orders")
    switch(stand, on=True)
    stand.wait(60)
    since_s = int((stand.sandbox.clock.now() - timedelta(minutes=20)).timestamp())
    monkeypatch.setattr("ddb_lake.pipeline.verify.gap_repair.restorable_since_s", lambda table: since_s)
    result = repair_gaps(stand.lake, "orders")
    assert (len(result.exports), result.left, open_gaps(stand.lake, "orders")) == (1, (), ())
    assert_lake_is_source(stand.lake, stand.sandbox)
    assert datetime.fromtimestamp(since_s, UTC) < stand.sandbox.clock.now()
