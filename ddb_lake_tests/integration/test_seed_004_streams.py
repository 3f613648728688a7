"""DynamoDB Streams, read directly, over HTTP: stream and backfill at once, crashes, throttling, a stream switched off.

Lists streams, describes them, takes iterators and records; lands in S3; applies; loads an export that took longer than
all of that; compares every item with the source.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.export_requests import describe_export, start_export
from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import session
from ddb_lake.aws.streams import StreamSource, TableStreams, ThrottledError
from ddb_lake.config import parse_settings
from ddb_lake.core.capture.shards import ShardPosition
from ddb_lake.errors import CommitConflict, ConfigError
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture import streams
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.streams import CHECKPOINT, Budget, read_streams
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.sync import sync
from ddb_lake.sandbox import ExportOptions, Sandbox, Traffic, create_orders_table
from ddb_lake_tests.support.crashing_lake import quarantined
from ddb_lake_tests.support.iceberg_readers import count_rows
from ddb_lake_tests.support.sandbox_lake import assert_lake_is_source, point_at
from ddb_lake_tests.support.sandbox_steps import make_bucket
from ddb_lake_tests.support.streams_reader import STEPS, Killed, killed

LANDING = "s3://landing/orders/"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(exports=ExportOptions(seconds=0)) as running:
        point_at(running, monkeypatch)
        create_orders_table(running.client("dynamodb"), streams=True)
        make_bucket(running, "landing")
        make_bucket(running, "exports")
        monkeypatch.setattr(streams, "POLL_S", 0.004)
        yield running
    session.cache_clear()


@pytest.fixture
def traffic(sandbox: Sandbox) -> Traffic:
    return Traffic(sandbox.client("dynamodb"), seed=4, now=sandbox.clock.now)


@pytest.fixture
def lake(sandbox: Sandbox, tmp_path: Path) -> Iterator[Lake]:
    table = {
        "name": "orders",
        "key": ["customer", "order_id"],
        "export": {"bucket": "exports"},
        "changes": {"streams": True, "landing": LANDING},
    }
    with open_lake(parse_settings({"warehouse": str(tmp_path / "lake"), "tables": [table]}, "test")) as opened:
        opened.now = sandbox.clock.now
        yield opened


class Throttling:
    """The streams of a table. Every third call is first refused."""

    def __init__(self, real: StreamSource) -> None:
        self._real, self._calls = real, 0

    def __getattr__(self, name: str) -> Any:
        if name == "line":  # it is no request
            return self._real.line

        def call(*arguments: Any) -> Any:
            self._calls += 1
            if self._calls % 3 == 0:
                raise ThrottledError("slow down")
            return getattr(self._real, name)(*arguments)

        return call


def apply_all(lake: Lake) -> None:
    apply_objects(lake, "orders", lake.settings.change_uris(lake.table("orders")))


def test_stream_and_backfill_at_once_make_the_source_whatever_dies_when(
    sandbox: Sandbox, lake: Lake, traffic: Traffic
) -> None:
    traffic.insert(60)
    read_streams(lake, "orders")
    sandbox.clock.advance(timedelta(minutes=10))
    state = start_export(lake.table("orders"))  # it will be loaded much later
    rewritten = traffic.insert(3)
    for number in range(12):  # a reader dies at every step, again and again
        traffic.run(6)
        source: Any = Throttling(TableStreams(lake.table("orders")))
        with killed(STEPS[1 + number % 3], number % 2):
            try:
                read_streams(lake, "orders", source=source, pause=lambda _seconds: None)
            except Killed:
                continue
    apply_all(lake)
    sandbox.clock.advance(timedelta(hours=30))  # the backfill takes longer than the stream keeps anything
    traffic.run(10)
    traffic.delete(2)
    traffic.recreate(1)
    sync(lake)
    load_export(lake, "orders", describe_export(lake.table("orders"), state.arn).manifest_uri)
    sync(lake)
    assert rewritten
    assert_lake_is_source(lake, sandbox)
    assert open_gaps(lake, "orders") == ()
    landed = [
        json.loads(line)
        for ref in lake.objects.list(LANDING)
        for line in gzip.decompress(lake.objects.read(ref.uri)).splitlines()
    ]
    events = {record["eventID"] for record in landed}
    assert len(landed) > len(events)  # some landed twice
    assert count_rows(lake, "orders_changes") == len(events)
    before = list(lake.objects.list(LANDING))
    assert sync(lake)[0].records == 0  # type: ignore[union-attr]
    assert list(lake.objects.list(LANDING)) == before


def test_stream_switched_off_and_on_is_a_gap_until_an_export_repairs_it(
    sandbox: Sandbox, lake: Lake, traffic: Traffic
) -> None:
    dynamodb = sandbox.client("dynamodb")
    traffic.insert(20)
    load_export(
        lake, "orders", describe_export(lake.table("orders"), start_export(lake.table("orders")).arn).manifest_uri
    )
    read_streams(lake, "orders")
    dynamodb.update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
    missed = traffic.insert(4)
    traffic.delete(3)
    assert [gap.kind for gap in read_streams(lake, "orders").gaps] == ["stream_off"]
    both = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    dynamodb.update_table(TableName="orders", StreamSpecification=both)
    traffic.insert(4)
    sync(lake)
    assert {gap.kind for gap in open_gaps(lake, "orders")} >= {"stream_off"}
    with pytest.raises(AssertionError, match="items differ"):
        assert_lake_is_source(lake, sandbox)
    sandbox.clock.advance(timedelta(minutes=20))
    state = start_export(lake.table("orders"))
    load_export(lake, "orders", describe_export(lake.table("orders"), state.arn).manifest_uri)
    sync(lake)
    assert missed
    assert_lake_is_source(lake, sandbox)
    assert open_gaps(lake, "orders") == ()


def test_export_older_than_what_the_stream_still_had_leaves_a_gap(
    sandbox: Sandbox, lake: Lake, traffic: Traffic
) -> None:
    dynamodb = sandbox.client("dynamodb")
    dynamodb.update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
    traffic.insert(5)
    state = start_export(lake.table("orders"))
    load_export(lake, "orders", describe_export(lake.table("orders"), state.arn).manifest_uri)
    traffic.insert(5)
    both = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    dynamodb.update_table(TableName="orders", StreamSpecification=both)
    assert [gap.kind for gap in read_streams(lake, "orders").gaps] == ["lost"]


def test_keys_only_stream_is_refused(sandbox: Sandbox, lake: Lake) -> None:
    dynamodb = sandbox.client("dynamodb")
    dynamodb.update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
    keys = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    dynamodb.update_table(TableName="orders", StreamSpecification=keys)
    with pytest.raises(ConfigError, match="KEYS_ONLY"):
        read_streams(lake, "orders")
    assert list(lake.objects.list(LANDING)) == []


def test_object_that_was_damaged_in_landing_goes_to_quarantine_and_the_rest_is_applied(
    sandbox: Sandbox, lake: Lake, traffic: Traffic
) -> None:
    traffic.insert(8)
    read_streams(lake, "orders")
    Landing(ObjectStore(), LANDING).put("2026/01/01/00/junk", b'{"eventName":"INSERT","dynamodb":{}}\nnot json\n')
    sync(lake)
    assert sum(quarantined(lake, "orders").values()) == 2
    assert_lake_is_source(lake, sandbox)


def test_reader_over_http_goes_on_after_a_sequence_number_and_from_the_first(
    sandbox: Sandbox, lake: Lake, traffic: Traffic
) -> None:
    traffic.insert(7)
    source = TableStreams(lake.table("orders"))
    assert source.table_id() == sandbox.client("dynamodb").describe_table(TableName="orders")["Table"]["TableId"]
    (arn,) = source.streams()
    (shard,) = source.describe(arn).shards
    records = source.records(source.iterator(arn, shard.shard_id, ShardPosition())).records
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    anchored = source.records(source.iterator(arn, shard.shard_id, ShardPosition(start=shard.first))).records
    after = source.records(
        source.iterator(arn, shard.shard_id, ShardPosition(start=shard.first, after=numbers[2]))
    ).records
    assert [record["dynamodb"]["SequenceNumber"] for record in anchored] == numbers
    assert [record["dynamodb"]["SequenceNumber"] for record in after] == numbers[3:]


@pytest.mark.parametrize("root", [LANDING, ""])
def test_checkpoint_is_replaced_only_if_it_is_the_one_that_was_read(
    sandbox: Sandbox, tmp_path: Path, root: str
) -> None:
    landing = Landing(ObjectStore(), root or str(tmp_path))
    assert landing.load(CHECKPOINT) == (None, None)
    first = landing.replace(CHECKPOINT, b"one", None)
    assert landing.load(CHECKPOINT) == (b"one", first)
    with pytest.raises(CommitConflict):
        landing.replace(CHECKPOINT, b"other", None)
    second = landing.replace(CHECKPOINT, b"two", first)
    with pytest.raises(CommitConflict):
        landing.replace(CHECKPOINT, b"other", first)
    assert landing.load(CHECKPOINT) == (b"two", second)
    assert list(ObjectStore().list(root or str(tmp_path))) == []  # it is no landed object


def test_budget_of_bytes_ends_the_reading_and_the_next_goes_on(sandbox: Sandbox, lake: Lake, traffic: Traffic) -> None:
    traffic.insert(10)
    first = read_streams(lake, "orders", Budget(most_bytes=1))
    assert (first.records, first.caught_up) == (10, False)
    traffic.insert(5)
    assert read_streams(lake, "orders").records == 5
