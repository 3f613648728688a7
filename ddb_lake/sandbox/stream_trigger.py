"""Lambda's event source mapping of a DynamoDB stream or a Kinesis stream: batches to a function, with partial batch responses.

https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
"""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

Invoke: TypeAlias = Callable[[dict[str, Any]], Any]
"""A function, such as a `Function`: the event in, the response out."""

REPORT: Final = "ReportBatchItemFailures"


@dataclass(frozen=True, slots=True)
class RetryRule:
    """When a mapping stops to repeat a batch that fails.

    https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html

    Attributes:
        attempts: the number of repetitions after the first attempt; None for no limit, which is the default.
        age_s: the age in seconds at which a record is discarded; None for no limit, which is the default.
        bisect: whether a failed batch of several records is split into two before it is repeated.
    """

    attempts: int | None = None
    age_s: int | None = None
    bisect: bool = False


@dataclass(frozen=True, slots=True)
class DiscardedBatch:
    """Records of one shard that a mapping does not repeat any more, as they are in the event; `invocations`: of the function."""

    shard: str
    condition: Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]
    invocations: int
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records that are passed together. `invocations`: how often they were passed."""

    records: tuple[dict[str, Any], ...]
    invocations: int = 0


@dataclass(slots=True)
class _Shard:
    """The records of a shard that are not processed: failed batches, and after them records without a batch."""

    failed: deque[_Batch] = field(default_factory=deque)
    new: list[dict[str, Any]] = field(default_factory=list)

    def next_batch(self, size: int) -> _Batch | None:
        """Remove and return the first batch."""
        if self.failed:
            return self.failed.popleft()
        batch, self.new = tuple(self.new[:size]), self.new[size:]
        return _Batch(batch) if batch else None

    @property
    def waiting(self) -> int:
        return len(self.new) + sum(len(batch.records) for batch in self.failed)


class StreamTrigger:
    """Passes a stream's records to a function, each shard's in order.

    A batch that fails, completely or from a record on, is passed again from there at the next `poll`, before later records
    of the shard. By default it is repeated without limit, as by Lambda. If `rule` has a limit, the records beyond it are
    passed to `discard`, and the shard's next records follow.

    Args:
        client: of DynamoDB Streams or of Kinesis, for the stream's ARN.
        from_start: read the shards that exist from their oldest record (TRIM_HORIZON); else from the latest. Shards
            that are created later are read from their start.
        partial: whether the function reports the failed records (`ReportBatchItemFailures`); else each response is a success.
        rule: when a failed batch is split and discarded. It may be changed at any time.
        discard: receives the discarded batches.
        now_us: the time.
    """

    def __init__(
        self,
        client: Any,
        stream_arn: str,
        function: Invoke,
        batch_size: int = 100,
        *,
        from_start: bool = True,
        partial: bool = True,
        rule: RetryRule = RetryRule(),
        discard: Callable[[DiscardedBatch], None] = lambda _: None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._client = client
        self._arn = stream_arn
        self._function = function
        self.batch_size = batch_size
        self.partial = partial
        self.rule = rule
        self._discard = discard
        self._now_us = now_us
        self._is_kinesis = stream_arn.split(":")[2] == "kinesis"
        self._queues: dict[str, _Shard] = {}
        self._iterators = {} if from_start else {shard: self._iterator(shard, "LATEST") for shard in self._shards()}

    def poll(self) -> int:
        """Read new records and invoke the function until all are processed or a batch failed. Returns the number processed."""
        self._read()
        return sum(self._deliver(shard, queue) for shard, queue in self._queues.items())

    @property
    def waiting(self) -> int:
        """The number of records that were read and not yet processed."""
        return sum(queue.waiting for queue in self._queues.values())

    def _shards(self) -> list[str]:
        if self._is_kinesis:
            shards = self._client.list_shards(StreamARN=self._arn)["Shards"]
        else:
            shards = self._client.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]
        return [shard["ShardId"] for shard in shards]

    def _iterator(self, shard: str, position: str) -> str:
        stream = "StreamARN" if self._is_kinesis else "StreamArn"
        request = {stream: self._arn, "ShardId": shard, "ShardIteratorType": position}
        return str(self._client.get_shard_iterator(**request)["ShardIterator"])

    def _read(self) -> None:
        for shard in self._shards():
            if shard not in self._iterators:
                self._iterators[shard] = self._iterator(shard, "TRIM_HORIZON")
            while self._iterators[shard]:  # empty at the end of a closed shard
                stream = {"StreamARN": self._arn} if self._is_kinesis else {}
                answer = self._client.get_records(ShardIterator=self._iterators[shard], **stream)
                found = [self._in_event(record, shard) for record in answer["Records"]]
                self._queues.setdefault(shard, _Shard()).new.extend(found)
                self._iterators[shard] = answer.get("NextShardIterator") or ""
                if not found or answer.get("MillisBehindLatest") == 0:
                    break

    def _in_event(self, record: dict[str, Any], shard: str) -> dict[str, Any]:
        return _kinesis_form(record, shard, self._arn) if self._is_kinesis else lambda_form(record, self._arn)

    def _deliver(self, shard: str, queue: _Shard) -> int:
        done = 0
        while batch := queue.next_batch(self.batch_size):
            batch = self._without_old(shard, batch)
            taken = self._taken(batch.records) if batch.records else 0
            done += taken
            if taken == len(batch.records):
                continue
            rest = replace(batch, records=batch.records[taken:])
            if self.rule.bisect and len(rest.records) > 1:
                queue.failed.extendleft(reversed(_halves(rest)))
                break
            rest = replace(rest, invocations=rest.invocations + 1)
            if self.rule.attempts is None or rest.invocations <= self.rule.attempts:
                queue.failed.appendleft(rest)
                break
            self._discard(DiscardedBatch(shard, "RetryAttemptsExhausted", rest.invocations, rest.records))
        return done

    def _without_old(self, shard: str, batch: _Batch) -> _Batch:
        """The batch without the records that are too old, which are discarded."""
        if self.rule.age_s is None:
            return batch
        since_s = self._now_us() / 1e6 - self.rule.age_s
        old = tuple(record for record in batch.records if self._arrived_s(record) < since_s)
        if old:
            self._discard(DiscardedBatch(shard, "RecordAgeExceeded", batch.invocations, old))
        return replace(batch, records=tuple(r for r in batch.records if self._arrived_s(r) >= since_s))

    def _arrived_s(self, record: dict[str, Any]) -> float:
        if self._is_kinesis:
            return float(record["kinesis"]["approximateArrivalTimestamp"])
        return float(record["dynamodb"]["ApproximateCreationDateTime"])

    def _taken(self, batch: tuple[dict[str, Any], ...]) -> int:
        """The number of records of a batch, from its first, that the function processed."""
        try:
            answer = self._function({"Records": list(batch)})
        except Exception:  # any exception of the function fails the batch, which Lambda retries
            return 0
        if not self.partial:
            return len(batch)
        failures = (answer or {}).get("batchItemFailures") or []
        source = "kinesis" if self._is_kinesis else "dynamodb"
        numbers = {self._sequence(record[source]): number for number, record in enumerate(batch)}
        return min((numbers.get(failure.get("itemIdentifier"), 0) for failure in failures), default=len(batch))

    def _sequence(self, body: dict[str, Any]) -> str:
        return str(body["sequenceNumber" if self._is_kinesis else "SequenceNumber"])


def _halves(batch: _Batch) -> list[_Batch]:
    """The two batches that are passed in place of a failed one. They keep its count, because a split is not a repetition.

    https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    middle = len(batch.records) // 2
    return [replace(batch, records=batch.records[:middle]), replace(batch, records=batch.records[middle:])]


def lambda_form(record: dict[str, Any], stream_arn: str) -> dict[str, Any]:
    """A record of boto3's GetRecords of DynamoDB Streams in the form of Lambda's event."""
    identity = record.get("userIdentity")
    formed: dict[str, Any] = {**record, "dynamodb": _plain(record["dynamodb"]), "eventSourceARN": stream_arn}
    if identity:
        formed["userIdentity"] = {"type": identity["Type"], "principalId": identity["PrincipalId"]}
    return formed


def _kinesis_form(record: dict[str, Any], shard: str, stream_arn: str) -> dict[str, Any]:
    account, region = stream_arn.split(":")[4], stream_arn.split(":")[3]
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record["PartitionKey"],
            "sequenceNumber": record["SequenceNumber"],
            "data": base64.b64encode(record["Data"]).decode(),
            "approximateArrivalTimestamp": round(record["ApproximateArrivalTimestamp"].timestamp(), 3),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{record['SequenceNumber']}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": f"arn:aws:iam::{account}:role/lambda",
        "awsRegion": region,
        "eventSourceARN": stream_arn,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return {name: _plain(member) for name, member in value.items()} if isinstance(value, dict) else value
