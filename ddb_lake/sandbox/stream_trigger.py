"""Lambda's event source mapping of a DynamoDB stream: batches to a function, with partial batch responses.

https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from ddb_lake.sandbox.functions import Function


class StreamTrigger:
    """Passes a stream's records to a function, each shard's in order, from the oldest record.

    A batch that fails, completely or from a record on, is passed again from there at the next `poll`, before later records
    of the shard. `ReportBatchItemFailures` is on.
    """

    def __init__(self, client: Any, stream_arn: str, function: Function, batch_size: int = 100) -> None:
        self._client = client
        self._arn = stream_arn
        self._function = function
        self._batch_size = batch_size
        self._iterators: dict[str, str] = {}
        self._waiting: dict[str, list[dict[str, Any]]] = {}

    def poll(self) -> int:
        """Read new records and invoke the function until all are processed or a batch failed. Returns the number processed."""
        self._read()
        return sum(self._deliver(waiting) for waiting in self._waiting.values())

    @property
    def waiting(self) -> int:
        """The number of records that were read and not yet processed."""
        return sum(map(len, self._waiting.values()))

    def _read(self) -> None:
        described = self._client.describe_stream(StreamArn=self._arn)["StreamDescription"]
        for shard in described["Shards"]:
            name = shard["ShardId"]
            if name not in self._iterators:
                asked = {"StreamArn": self._arn, "ShardId": name, "ShardIteratorType": "TRIM_HORIZON"}
                self._iterators[name] = self._client.get_shard_iterator(**asked)["ShardIterator"]
            while True:
                answer = self._client.get_records(ShardIterator=self._iterators[name])
                found = [lambda_form(record, self._arn) for record in answer["Records"]]
                self._waiting.setdefault(name, []).extend(found)
                self._iterators[name] = answer["NextShardIterator"]
                if not found:
                    break

    def _deliver(self, waiting: list[dict[str, Any]]) -> int:
        done = 0
        while waiting:
            batch = waiting[: self._batch_size]
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
        failures = (answer or {}).get("batchItemFailures") or []
        numbers = {record["dynamodb"]["SequenceNumber"]: number for number, record in enumerate(batch)}
        return min((numbers.get(failure.get("itemIdentifier"), 0) for failure in failures), default=len(batch))


def lambda_form(record: dict[str, Any], stream_arn: str) -> dict[str, Any]:
    """A record of boto3's GetRecords in the form of Lambda's event."""
    identity = record.get("userIdentity")
    formed: dict[str, Any] = {**record, "dynamodb": _plain(record["dynamodb"]), "eventSourceARN": stream_arn}
    if identity:
        formed["userIdentity"] = {"type": identity["Type"], "principalId": identity["PrincipalId"]}
    return formed


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return {name: _plain(member) for name, member in value.items()} if isinstance(value, dict) else value
