"""DynamoDB Streams over the API: which streams a table has, their shards, iterators, and records.

`StreamSource` is the interface that the reader (`pipeline.capture.streams`) uses; tests replace it with a fake. The
client retries throttled calls with growing pauses and jitter (`session`). A call that is still throttled after
that raises ThrottledError, and the reader continues with other shards meanwhile.
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
from ddb_lake.errors import TerminalError, TransientError

_THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
}


class ExpiredIteratorError(TransientError):
    """An iterator older than 15 minutes: make another from the same position."""


class TrimmedError(TerminalError):
    """The position is before the first record that the shard still has: records after it may be lost."""


class StreamGoneError(TerminalError):
    """There is no such stream or shard (any more)."""


class ThrottledError(TransientError):
    """Too many calls for now, or a fault of the service that passes."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one GetRecords gave: records in boto3's form, and where to go on; None at the end of a closed shard."""

    records: Sequence[Mapping[str, Any]]
    next_iterator: str | None


class StreamSource(Protocol):
    """The streams of one table. Every call may raise ThrottledError."""

    def table_id(self) -> str | None:
        """The table's own id; None if the table does not exist or cannot be described."""

    def streams(self) -> list[str]:
        """The ARNs of its streams, in no order: those that are switched off too, while they can be read."""

    def describe(self, arn: str) -> Stream:
        """A stream with all its shards. Raises StreamGoneError."""

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        """An iterator that continues at a position. Raises TrimmedError, StreamGoneError."""

    def records(self, iterator: str) -> Page:
        """The next records, up to 1,000 or 1 MB; none may mean that there are more later on.

        Raises ExpiredIteratorError, TrimmedError, StreamGoneError.
        """


class TableStreams:
    """The streams of a configured table, over the API: the real `StreamSource`."""

    def __init__(self, table: TableSettings) -> None:
        self._table = table
        self._client = source_client(table, "dynamodbstreams")

    def table_id(self) -> str | None:
        """As StreamSource has it."""
        return describe_source(self._table).table_id

    def streams(self) -> list[str]:
        """As StreamSource has it."""
        found: list[str] = []
        request: dict[str, str] = {"TableName": self._table.source_name}
        with _told():
            while True:
                answer = self._client.list_streams(**request)
                found += [one["StreamArn"] for one in answer["Streams"]]
                if not answer.get("LastEvaluatedStreamArn"):
                    return found
                request["ExclusiveStartStreamArn"] = answer["LastEvaluatedStreamArn"]

    def describe(self, arn: str) -> Stream:
        """As StreamSource has it."""
        shards: list[Shard] = []
        request: dict[str, str] = {"StreamArn": arn}
        with _told():
            while True:
                found = self._client.describe_stream(**request)["StreamDescription"]
                shards += [_shard(one) for one in found.get("Shards", ())]
                if not found.get("LastEvaluatedShardId"):
                    created_us = int(found["CreationRequestDateTime"].timestamp() * 1_000_000)
                    running = found["StreamStatus"] in ("ENABLED", "ENABLING")
                    return Stream(arn, created_us, running, found.get("StreamViewType", ""), tuple(shards))
                request["ExclusiveStartShardId"] = found["LastEvaluatedShardId"]

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        """As StreamSource has it."""
        if position.after is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": position.after}
        elif position.start is not None:
            where = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "SequenceNumber": position.start}
        else:
            where = {"ShardIteratorType": "TRIM_HORIZON"}
        with _told():
            answer = self._client.get_shard_iterator(StreamArn=arn, ShardId=shard_id, **where)
        found: str = answer["ShardIterator"]
        return found

    def records(self, iterator: str) -> Page:
        """As StreamSource has it."""
        with _told():
            answer = self._client.get_records(ShardIterator=iterator)
        return Page(answer["Records"], answer.get("NextShardIterator"))


def _shard(found: Mapping[str, Any]) -> Shard:
    numbers = found.get("SequenceNumberRange", {})
    return Shard(
        found["ShardId"],
        found.get("ParentShardId"),
        numbers.get("StartingSequenceNumber"),
        numbers.get("EndingSequenceNumber"),
    )


@contextmanager
def _told() -> Iterator[None]:
    """The service's answers as this module's errors."""
    try:
        yield
    except HTTPClientError as error:
        raise ThrottledError(f"DynamoDB Streams did not answer: {type(error).__name__}") from error
    except ClientError as error:
        code, said = error.response.get("Error", {}).get("Code", ""), str(error)
        if code == "ExpiredIteratorException":
            raise ExpiredIteratorError(said) from error
        if code == "TrimmedDataAccessException":
            raise TrimmedError(said) from error
        if code == "ResourceNotFoundException":
            raise StreamGoneError(said) from error
        if code in _THROTTLED:
            raise ThrottledError(said) from error
        raise
