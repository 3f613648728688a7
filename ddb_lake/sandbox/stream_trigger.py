"""Lambda's event source mapping of a DynamoDB stream or a Kinesis stream: batches to a function, with partial batch responses.

https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeAlias

Invoke: TypeAlias = Callable[[dict[str, Any]], Any]
"""A function, such as a `Function`: the event in, the response out."""

REPORT: Final = "ReportBatchItemFailures"


class StreamTrigger:
    """Passes a stream's records to a function, each shard's in order.

    A batch that fails, completely or from a record on, is passed again from there at the next `poll`, before later records
    of the shard, without limit, which is Lambda's default.

    Args:
        client: of DynamoDB Streams or of Kinesis, for the stream's ARN.
        from_start: read the shards that exist from their oldest record (TRIM_HORIZON); else from the latest. Shards
            that are created later are read from their start.
        partial: whether the function reports the failed records (`ReportBatchItemFailures`); else each response is a success.
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
    ) -> None:
        self._client = client
        self._arn = stream_arn
        self._function = function
        self.batch_size = batch_size
        self.partial = partial
        self._is_kinesis = stream_arn.split(":")[2] == "kinesis"
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._iterators = {} if from_start else {shard: self._iterator(shard, "LATEST") for shard in self._shards()}

    def poll(self) -> int:
        """Read new records and invoke the function until all are processed or a batch failed. Returns the number processed."""
        self._read()
        return sum(self._deliver(waiting) for waiting in self._waiting.values())

    @property
    def waiting(self) -> int:
        """The number of records that were read and not yet processed."""
        return sum(map(len, self._waiting.values()))

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
                self._waiting.setdefault(shard, []).extend(found)
                self._iterators[shard] = answer.get("NextShardIterator") or ""
                if not found or answer.get("MillisBehindLatest") == 0:
                    break

    def _in_event(self, record: dict[str, Any], shard: str) -> dict[str, Any]:
        return _kinesis_form(record, shard, self._arn) if self._is_kinesis else lambda_form(record, self._arn)

    def _deliver(self, waiting: list[dict[str, Any]]) -> int:
        done = 0
        while waiting:
            batch = waiting[: self.batch_size]
            taken = self._taken(batch)
            del waiting[:taken]
            done += taken
            if taken < len(batch):
                break
        return done

    def _taken(self, batch: list[dict[str, Any]]) -> int:
        """The number of records of a batch, from its first, that the function processed."""
        try:
            answer = self._function({"Records": batch})
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
