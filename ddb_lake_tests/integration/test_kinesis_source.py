"""A Kinesis stream read directly, through the API of the sandbox: resharding, aggregates, faults, and the lake at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.kinesis_fan_out import FanOutStream
from ddb_lake.aws.kinesis_source import KinesisStream
from ddb_lake.aws.streams import StreamSource, ThrottledError
from ddb_lake.errors import ConfigError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.streams import Budget, read_streams
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.quarantine import show_quarantine
from ddb_lake.sandbox import Sandbox
from ddb_lake.sandbox.traffic import Traffic
from ddb_lake_tests.support.kinesis_lines import record
from ddb_lake_tests.support.sandbox_lake import assert_lake_is_source, orders_lake, orders_source
from ddb_lake_tests.support.sandbox_steps import make_stream
from ddb_lake_tests.support.wrapped_records import aggregated

STREAM = "changes"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with orders_source(monkeypatch) as running:
        make_stream(running, "orders")
        yield running


@pytest.fixture
def lake(sandbox: Sandbox, tmp_path: Path) -> Iterator[Lake]:
    with orders_lake(sandbox, tmp_path, changes={"kinesis": STREAM}) as opened:
        yield opened


@pytest.fixture
def traffic(sandbox: Sandbox) -> Traffic:
    return Traffic(sandbox.client("dynamodb"), "orders", seed=3)


def _split(sandbox: Sandbox) -> None:
    kinesis = sandbox.client("kinesis")
    shard = next(s for s in kinesis.list_shards(StreamName=STREAM)["Shards"] if _is_open(s))
    low, high = (int(shard["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
    kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high) // 2))


def _merge(sandbox: Sandbox) -> None:
    kinesis = sandbox.client("kinesis")
    found = [shard for shard in kinesis.list_shards(StreamName=STREAM)["Shards"] if _is_open(shard)]
    one, other = sorted(found, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))[:2]
    kinesis.merge_shards(StreamName=STREAM, ShardToMerge=one["ShardId"], AdjacentShardToMerge=other["ShardId"])


def _is_open(shard: dict[str, Any]) -> bool:
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def _apply(lake: Lake) -> None:
    apply_objects(lake, "orders", lake.settings.change_uris(lake.table("orders")))


def _fan_out(lake: Lake) -> StreamSource:
    table = lake.table("orders")
    assert table.changes is not None
    return FanOutStream(table.model_copy(update={"changes": table.changes.model_copy(update={"fan_out": "lake"})}))


@pytest.mark.parametrize("source_of", [lambda _: None, _fan_out], ids=["GetRecords", "fan-out"])
def test_stream_that_is_split_and_merged_makes_the_source(
    sandbox: Sandbox, lake: Lake, traffic: Traffic, source_of: Callable[[Lake], StreamSource | None]
) -> None:
    source = source_of(lake)
    traffic.run(8)
    sandbox.settle()
    first = read_streams(lake, "orders", Budget(seconds=30), source)
    assert first.caught_up
    assert first.records
    for reshard in (_split, _merge, _split):
        traffic.run(4)
        sandbox.settle()
        reshard(sandbox)
        traffic.run(4)
        sandbox.settle()
        read = read_streams(lake, "orders", Budget(seconds=30), source)
        assert (read.caught_up, read.gaps) == (True, ())
    _apply(lake)
    assert_lake_is_source(lake, sandbox)


def test_change_of_the_way_of_reading_reads_nothing_twice(sandbox: Sandbox, lake: Lake, traffic: Traffic) -> None:
    for source in (None, _fan_out(lake), None):
        traffic.insert(3)
        sandbox.settle()
        assert read_streams(lake, "orders", Budget(seconds=30), source).records == 3


def test_aggregates_and_data_that_is_no_json_land_without_harm_to_other_records(sandbox: Sandbox, lake: Lake) -> None:
    kinesis = sandbox.client("kinesis")
    for data in (
        b'{"dynamodb": {',
        aggregated(*(json.dumps(record(number)).encode() for number in (1, 2))),
        b"\xff\x00garbage",
        b'{"a": 1}\n{"b"',
    ):
        kinesis.put_record(StreamName=STREAM, Data=data, PartitionKey="x")
    Traffic(sandbox.client("dynamodb"), "orders", seed=3).insert(3)
    sandbox.settle()
    read_streams(lake, "orders", Budget(seconds=30))
    applied = apply_objects(lake, "orders", lake.settings.change_uris(lake.table("orders")))
    assert (applied.new, applied.quarantined) == (3, 6)
    assert len(show_quarantine(lake, "orders")) == 6


class _Throttled:
    """A source that refuses every third request once."""

    def __init__(self, real: StreamSource) -> None:
        self._real, self._calls = real, 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._calls += 1
            if self._calls % 3 == 0:
                raise ThrottledError("slow down")
            return getattr(self._real, name)(*arguments)

        return self._real.line if name == "line" else call


@pytest.mark.exhaustive
def test_throttled_requests_are_repeated(sandbox: Sandbox, lake: Lake, traffic: Traffic) -> None:
    traffic.insert(6)
    sandbox.settle()
    source: Any = _Throttled(KinesisStream(lake.table("orders")))
    read = read_streams(lake, "orders", Budget(seconds=60), source=source)
    assert (read.records, read.caught_up) == (6, True)
    assert read.throttled


@pytest.mark.exhaustive
def test_stream_that_does_not_exist_is_refused_with_the_command(sandbox: Sandbox, tmp_path: Path) -> None:
    with (
        orders_lake(sandbox, tmp_path, changes={"kinesis": "absent"}) as lake,
        pytest.raises(ConfigError, match="enable-kinesis-streaming-destination"),
    ):
        read_streams(lake, "orders")


@pytest.mark.exhaustive
def test_destination_that_was_switched_off_is_a_gap_until_it_is_on(
    sandbox: Sandbox, lake: Lake, traffic: Traffic
) -> None:
    traffic.insert(1)
    sandbox.settle()
    read_streams(lake, "orders", Budget(seconds=30))
    dynamodb, arn = sandbox.client("dynamodb"), _arn(sandbox)
    dynamodb.disable_kinesis_streaming_destination(TableName="orders", StreamArn=arn)
    assert [gap.kind for gap in read_streams(lake, "orders", Budget(seconds=30)).gaps] == ["stream_off"]
    traffic.insert(1)
    dynamodb.enable_kinesis_streaming_destination(TableName="orders", StreamArn=arn)
    traffic.insert(1)
    sandbox.settle()
    read = read_streams(lake, "orders", Budget(seconds=30))
    assert [gap.kind for gap in read.gaps] == ["stream_off"]
    assert read.records == 1


@pytest.mark.exhaustive
def test_stream_that_was_deleted_and_created_again_is_a_gap(sandbox: Sandbox, lake: Lake, traffic: Traffic) -> None:
    traffic.insert(2)
    sandbox.settle()
    read_streams(lake, "orders", Budget(seconds=30))
    kinesis, dynamodb, arn = sandbox.client("kinesis"), sandbox.client("dynamodb"), _arn(sandbox)
    dynamodb.disable_kinesis_streaming_destination(TableName="orders", StreamArn=arn)
    kinesis.delete_stream(StreamName=STREAM)
    traffic.insert(1)
    make_stream(sandbox, "orders")
    traffic.insert(1)
    sandbox.settle()
    read = read_streams(lake, "orders", Budget(seconds=30))
    assert "stream_changed" in {gap.kind for gap in read.gaps}
    assert read.records == 1


def _arn(sandbox: Sandbox) -> str:
    return str(sandbox.client("kinesis").describe_stream(StreamName=STREAM)["StreamDescription"]["StreamARN"])
