"""DynamoDB Streams through the API: a table's streams, their shards, iterators and records.

`StreamSource` is the interface that the reader (`pipeline.capture.streams`) uses; `aws.kinesis_source` and tests implement it
too. The client retries throttled requests (`session`). If it still fails, the error is ThrottledError, and the reader continues
with another shard.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB_Streams.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError, HTTPClientError

from ddb_lake.aws.source import describe_source, source_client
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.shards import Shard, ShardPosition, Stream
from ddb_lake.core.capture.stream_lines import StreamLine, dynamodb_line
from ddb_lake.errors import TerminalError, TransientError

_THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
    "KMSThrottlingException",
    "InternalFailureException",
    "InternalFailure",
    "ServiceUnavailable",
    "ServiceUnavailableException",
}


class ExpiredIteratorError(TransientError):
    """An iterator older than 15 minutes: make another from the same position."""


class TrimmedError(TerminalError):
    """The position is before the first record that the shard still has: records after it may be lost."""


class StreamGoneError(TerminalError):
    """The stream or shard does not exist, or no longer exists."""


class ThrottledError(TransientError):
    """A throttled request, or a transient fault of the service."""


@dataclass(frozen=True, slots=True)
class Page:
    """The response of one GetRecords.

    `records`: in boto3's form. `next_iterator`: None at the end of a closed shard. `behind_ms`: how far the response is from
    the end of the shard, if the service states it; 0: nothing more is there now.
    """

    records: Sequence[Mapping[str, Any]]
    next_iterator: str | None
    behind_ms: int | None = None


class StreamSource(Protocol):
    """The streams of one table. Every call may raise ThrottledError."""

    def table_id(self) -> str | None:
        """The table's id; None if the table does not exist or cannot be described."""

    def streams(self) -> list[str]:
        """The ARNs of its streams in any order, with disabled ones that can still be read."""

    def describe(self, arn: str) -> Stream:
        """A stream with all its shards. Raises StreamGoneError."""

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        """An iterator that continues at a position. Raises TrimmedError, StreamGoneError."""

    def records(self, iterator: str) -> Page:
        """The next records, some MB at most. An empty page does not mean that there are no more.

        Raises ExpiredIteratorError, TrimmedError, StreamGoneError.
        """

    def line(self, record: Mapping[str, Any], arn: str, shard_id: str) -> StreamLine:
        """A record of `records` in the form in which it lands. It makes no request."""


class TableStreams:
    """The streams of a configured table, through the API."""

    def __init__(self, table: TableSettings) -> None:
        self._table = table
        self._client = source_client(table, "dynamodbstreams")

    def table_id(self) -> str | None:
        """See `StreamSource`."""
        return describe_source(self._table).table_id

    def streams(self) -> list[str]:
        """See `StreamSource`."""
        arns: list[str] = []
        request: dict[str, str] = {"TableName": self._table.source_name}
        with translated_errors():
            while True:
                answer = self._client.list_streams(**request)
                arns += [one["StreamArn"] for one in answer["Streams"]]
                if not answer.get("LastEvaluatedStreamArn"):
                    return arns
                request["ExclusiveStartStreamArn"] = answer["LastEvaluatedStreamArn"]

    def describe(self, arn: str) -> Stream:
        """See `StreamSource`."""
        shards: list[Shard] = []
        request: dict[str, str] = {"StreamArn": arn}
        with translated_errors():
            while True:
                page = self._client.describe_stream(**request)["StreamDescription"]
                shards += [_shard(one) for one in page.get("Shards", ())]
                if not page.get("LastEvaluatedShardId"):
                    created_us = int(page["CreationRequestDateTime"].timestamp() * 1_000_000)
                    running = page["StreamStatus"] in ("ENABLED", "ENABLING")
                    return Stream(arn, created_us, running, page.get("StreamViewType", ""), tuple(shards))
                request["ExclusiveStartShardId"] = page["LastEvaluatedShardId"]

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        """See `StreamSource`."""
        if position.after is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": position.after}
        elif position.start is not None:
            where = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "SequenceNumber": position.start}
        else:
            where = {"ShardIteratorType": "TRIM_HORIZON"}
        with translated_errors():
            answer = self._client.get_shard_iterator(StreamArn=arn, ShardId=shard_id, **where)
        shard_iterator: str = answer["ShardIterator"]
        return shard_iterator

    def records(self, iterator: str) -> Page:
        """See `StreamSource`."""
        with translated_errors():
            answer = self._client.get_records(ShardIterator=iterator)
        return Page(answer["Records"], answer.get("NextShardIterator"))

    def line(self, record: Mapping[str, Any], arn: str, shard_id: str) -> StreamLine:  # noqa: ARG002  # the protocol's
        """See `StreamSource`."""
        return dynamodb_line(record, arn)


def _shard(found: Mapping[str, Any]) -> Shard:
    numbers = found.get("SequenceNumberRange", {})
    return Shard(
        found["ShardId"],
        found.get("ParentShardId"),
        numbers.get("StartingSequenceNumber"),
        numbers.get("EndingSequenceNumber"),
    )


@contextmanager
def translated_errors(service: str = "DynamoDB Streams") -> Iterator[None]:
    """Translate errors of DynamoDB Streams and of Kinesis to those of this module."""
    try:
        yield
    except HTTPClientError as error:
        raise ThrottledError(f"{service} did not answer: {type(error).__name__}") from error
    except ClientError as error:
        code, message = error.response.get("Error", {}).get("Code", ""), str(error)
        if code == "ExpiredIteratorException":
            raise ExpiredIteratorError(message) from error
        if code == "TrimmedDataAccessException":
            raise TrimmedError(message) from error
        if code == "ResourceNotFoundException":
            raise StreamGoneError(message) from error
        if code in _THROTTLED:
            raise ThrottledError(message) from error
        raise
