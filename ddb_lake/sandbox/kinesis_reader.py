"""Read a Kinesis stream through its API, shard by shard, each record once."""

from __future__ import annotations

from typing import Any

from ddb_lake.sandbox.clock import to_micros
from ddb_lake.sandbox.transform import Arrived


class KinesisReader:
    """Starts at the latest or at the oldest records of the existing shards.

    Shards that are created later by resharding are read from their start.
    """

    def __init__(self, client: Any, stream_arn: str, from_start: bool) -> None:
        self._client = client
        self._stream_arn = stream_arn
        self._iterators: dict[str, str | None] = {shard: self._iterator(shard, from_start) for shard in self._shards()}

    def read_into(self, found: list[Arrived]) -> None:
        """Append all unread records, each shard's in order."""
        for shard in self._shards():
            if shard not in self._iterators:
                self._iterators[shard] = self._iterator(shard, from_start=True)
        for shard in self._iterators:
            self._read_shard(shard, found)

    def _shards(self) -> list[str]:
        listed = self._client.list_shards(StreamARN=self._stream_arn)["Shards"]
        return [shard["ShardId"] for shard in listed]

    def _iterator(self, shard: str, from_start: bool) -> str:
        position = "TRIM_HORIZON" if from_start else "LATEST"
        answer = self._client.get_shard_iterator(StreamARN=self._stream_arn, ShardId=shard, ShardIteratorType=position)
        return str(answer["ShardIterator"])

    def _read_shard(self, shard: str, found: list[Arrived]) -> None:
        while self._iterators[shard] is not None:
            answer = self._client.get_records(StreamARN=self._stream_arn, ShardIterator=self._iterators[shard])
            found += [_arrived(record, shard) for record in answer["Records"]]
            self._iterators[shard] = answer.get("NextShardIterator")  # none: the shard is closed, and read to its end
            if not answer["Records"] or not answer["MillisBehindLatest"]:
                return


def _arrived(record: dict[str, Any], shard: str) -> Arrived:
    sequence, arrived_us = record["SequenceNumber"], to_micros(record["ApproximateArrivalTimestamp"])
    metadata = {
        "sequenceNumber": sequence,
        "subsequenceNumber": 0,
        "partitionKey": record["PartitionKey"],
        "shardId": shard,
        "approximateArrivalTimestamp": arrived_us // 1000,
    }
    return Arrived(f"{sequence}000000", record["Data"], arrived_us, metadata)
