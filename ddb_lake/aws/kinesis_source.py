"""Kinesis Data Streams through the API: the stream that a table's changes are read from, its shards and records.

It implements `aws.streams.StreamSource`. A stream that is deleted and created again has the same ARN, so its name for the
reader is the ARN and the time of its creation. Records are read with GetRecords, which all readers of a shard share: five
requests and 2 MB a second. `aws.kinesis_fan_out` reads by enhanced fan-out instead, which has a price for each reader.

https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from ddb_lake.aws.diagnostics import kinesis_destinations
from ddb_lake.aws.session import client
from ddb_lake.aws.source import describe_source
from ddb_lake.aws.streams import Page, StreamGoneError, TrimmedError, translated_errors
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.shards import Shard, ShardPosition, Stream
from ddb_lake.core.capture.stream_lines import StreamLine, kinesis_line

_HOUR_US = 3600 * 1_000_000
_SERVICE = "Kinesis"
_ACTIVE_STREAM = ("ACTIVE", "UPDATING")


class KinesisStream:
    """The Kinesis stream of a table, `changes.kinesis`."""

    def __init__(self, table: TableSettings) -> None:
        assert table.changes is not None and table.changes.kinesis is not None, "the caller checked it"
        self._table = table
        self._name = table.changes.kinesis
        is_arn = self._name.startswith("arn:")
        self._stream = {"StreamARN" if is_arn else "StreamName": self._name}
        source = table.source
        region = self._name.split(":")[3] if is_arn else source.region
        self._client = client("kinesis", region, source.role_arn, source.external_id)

    def table_id(self) -> str | None:
        """See `StreamSource`."""
        return describe_source(self._table).table_id

    def streams(self) -> list[str]:
        """See `StreamSource`. The stream as it is now, if it exists."""
        with translated_errors(_SERVICE):
            try:
                return [_identity(self._summary())]
            except self._client.exceptions.ResourceNotFoundException:
                return []

    def describe(self, arn: str) -> Stream:
        """See `StreamSource`. It runs if the table's changes are replicated to it."""
        with translated_errors(_SERVICE):
            summary = self._summary()
            if _identity(summary) != arn:
                raise StreamGoneError("the stream was deleted, and created again")
            shards = self._shards()
        targets = {one.stream_arn for one in kinesis_destinations(self._table) if one.status == "ACTIVE"}
        running = summary["StreamStatus"] in _ACTIVE_STREAM and summary["StreamARN"] in targets
        retention_us = summary["RetentionPeriodHours"] * _HOUR_US
        return Stream(arn, _created_us(summary), running, "", shards, retention_us, reports_trimmed=False)

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:  # noqa: ARG002  # the protocol's
        """See `StreamSource`."""
        where = {"ShardIteratorType": "TRIM_HORIZON"}
        if position.after is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": position.after}
        with translated_errors(_SERVICE):
            try:
                answer = self._client.get_shard_iterator(**self._stream, ShardId=shard_id, **where)
            except ClientError as error:
                if error.response["Error"]["Code"] == "InvalidArgumentException":
                    raise TrimmedError(f"{self._name}, {shard_id}: the stream does not know the position") from error
                raise
        shard_iterator: str = answer["ShardIterator"]
        return shard_iterator

    def records(self, iterator: str) -> Page:
        """See `StreamSource`."""
        with translated_errors(_SERVICE):
            answer = self._client.get_records(ShardIterator=iterator)
        return Page(answer["Records"], answer.get("NextShardIterator"), answer.get("MillisBehindLatest"))

    def line(self, record: Mapping[str, Any], arn: str, shard_id: str) -> StreamLine:  # noqa: ARG002  # the protocol's
        """See `StreamSource`."""
        return kinesis_line(record, shard_id)

    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = self._client.describe_stream_summary(**self._stream)["StreamDescriptionSummary"]
        return summary

    def _shards(self) -> tuple[Shard, ...]:
        shards: list[Shard] = []
        request: dict[str, Any] = dict(self._stream)
        while True:
            page = self._client.list_shards(**request)
            shards += [_shard(one) for one in page["Shards"]]
            if not page.get("NextToken"):
                return tuple(shards)
            request = {"NextToken": page["NextToken"]}


def _identity(summary: Mapping[str, Any]) -> str:
    return f"{summary['StreamARN']}@{_created_us(summary)}"


def _created_us(summary: Mapping[str, Any]) -> int:
    return int(summary["StreamCreationTimestamp"].timestamp() * 1_000_000)


def _shard(found: Mapping[str, Any]) -> Shard:
    numbers = found["SequenceNumberRange"]
    return Shard(
        found["ShardId"],
        found.get("ParentShardId"),
        numbers["StartingSequenceNumber"],
        numbers.get("EndingSequenceNumber"),
        found.get("AdjacentParentShardId"),
    )
