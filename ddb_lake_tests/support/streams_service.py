"""DynamoDB Streams, simulated: shard lineage, closing, splitting, trimming, iterators that expire, throttling.

`SimulatedStreams` keeps the promises of `aws.streams.StreamSource` and shares no code with what reads it but the
shapes of that protocol. It trims as early as the service may (to the microsecond at 24 hours), gives empty pages before
records, and closes every shard of a stream that is switched off. Time stands still but for `advance` and what calls take.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ddb_lake.aws.streams import ExpiredIteratorError, Page, StreamGoneError, ThrottledError, TrimmedError
from ddb_lake.core.capture.shards import Shard, ShardPosition, Stream
from ddb_lake.core.capture.stream_lines import StreamLine, dynamodb_line, kinesis_line

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
CALL_US = 20_000
START_US = 1_772_357_400_000_000
BUCKETS = 8
"""Keys fall into this many buckets; a shard has a range of them."""


@dataclass(frozen=True)
class Change:
    """One true change of the table: its time, key, new image, and where it was captured (None: nowhere)."""

    time_us: int
    key: int
    value: int
    arn: str | None
    sequence: int


@dataclass
class SimShard:
    """One shard: the buckets it takes, its records with their times, and how many of them were trimmed."""

    shard_id: str
    parent_id: str | None
    buckets: range
    first: int
    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    closed_us: int | None = None
    last: int | None = None
    adjacent_id: str | None = None

    def trimmed(self, now_us: int) -> int:
        """How many records are gone."""
        return sum(1 for time_us, _ in self.records if time_us < now_us - DAY_US)

    def is_gone(self, now_us: int) -> bool:
        """Whether it is not listed any more."""
        return self.closed_us is not None and self.closed_us < now_us - DAY_US


@dataclass
class SimStream:
    """One stream, with all the shards it ever had."""

    arn: str
    created_us: int
    shards: dict[str, SimShard] = field(default_factory=dict)
    off_us: int | None = None


@dataclass
class SimulatedStreams:
    """A table and its streams; the `StreamSource` of it. `every_call` is called before each answer."""

    now_us: int = START_US
    page_size: int = 3
    table_name: str = "things"
    empty_pages: int = 0
    throttles: int = 0
    every_call: Callable[[], None] = lambda: None
    changes: list[Change] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    _streams: list[SimStream] = field(default_factory=list)
    _iterators: dict[str, tuple[SimStream, SimShard, int, int, int]] = field(default_factory=dict)
    _items: dict[int, int] = field(default_factory=dict)
    _numbers: int = 10**24
    _tables: int = 1
    _made: int = 0

    # --- the table

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_us / SECOND_US, UTC)

    def clock(self) -> float:
        return self.now_us / SECOND_US

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)

    @property
    def running(self) -> SimStream | None:
        """The stream that captures changes."""
        return self._streams[-1] if self._streams and self._streams[-1].off_us is None else None

    def enable(self, shards: int = 1) -> None:
        """Switch a new stream on, with some root shards."""
        if self.running is None:
            arn = f"arn:aws:dynamodb:eu-west-1:111122223333:table/{self.table_name}/stream/{self.now():%Y-%m-%dT%H:%M:%S.%f}"
            stream = SimStream(arn, self.now_us)
            self._streams.append(stream)
            width = BUCKETS // shards
            for number in range(shards):
                self._open(stream, None, range(number * width, (number + 1) * width))

    def disable(self) -> None:
        """Switch the stream off: all its shards are closed."""
        stream = self.running
        if stream is not None:
            stream.off_us = self.now_us
            for shard in self._open_shards(stream):
                self._close(shard)

    def recreate(self) -> None:
        """Delete the table and make it again, empty, with a stream of its own."""
        self.disable()
        for key in list(self._items):
            del self._items[key]
            self.changes.append(Change(self.now_us, key, -1, None, 0))
        self.advance(0.001)
        self._tables += 1
        self.enable()

    def write(self, key: int, value: int) -> None:
        """Put an item (a negative value: delete it). What changes nothing is no change."""
        old = self._items.get(key)
        new = None if value < 0 else value
        if old == new:
            return
        if new is None:
            del self._items[key]
        else:
            self._items[key] = new
        stream = self.running
        number = self._number()
        self.changes.append(Change(self.now_us, key, value, stream.arn if stream else None, number))
        if stream is not None:
            (shard,) = (one for one in self._open_shards(stream) if key % BUCKETS in one.buckets)
            shard.records.append((self.now_us, self._record(key, old, new, number)))

    def split(self, pick: int = 0) -> None:
        """Close an open shard; two children share its buckets, or one takes them all if there is but one bucket."""
        stream = self.running
        if stream is None:
            return
        shards = self._open_shards(stream)
        shard = shards[pick % len(shards)]
        self._close(shard)
        middle = (shard.buckets.start + shard.buckets.stop) // 2
        for buckets in (range(shard.buckets.start, middle), range(middle, shard.buckets.stop)):
            if buckets:
                self._open(stream, shard.shard_id, buckets)

    def roll(self, pick: int = 0) -> None:
        """Close an open shard; one child goes on, as DynamoDB does every few hours."""
        stream = self.running
        if stream is not None:
            shards = self._open_shards(stream)
            shard = shards[pick % len(shards)]
            self._close(shard)
            self._open(stream, shard.shard_id, shard.buckets)

    def expire_iterators(self) -> None:
        """Let all iterators expire at once."""
        self._iterators.clear()

    @property
    def items(self) -> Mapping[int, int]:
        """The items there are."""
        return self._items

    # --- StreamSource

    def table_id(self) -> str | None:
        self._answer("table_id")
        return f"table-{self._tables}"

    def streams(self) -> list[str]:
        self._answer("streams")
        return [stream.arn for stream in self._listed()]

    def describe(self, arn: str) -> Stream:
        self._answer("describe")
        stream = self._find(arn)
        shards = tuple(
            Shard(one.shard_id, one.parent_id, str(one.first), None if one.last is None else str(one.last))
            for one in stream.shards.values()
            if not one.is_gone(self.now_us)
        )
        return Stream(arn, stream.created_us, stream.off_us is None, "NEW_AND_OLD_IMAGES", shards)

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        self._answer("iterator")
        stream = self._find(arn)
        shard = stream.shards.get(shard_id)
        if shard is None or shard.is_gone(self.now_us):
            raise StreamGoneError("no such shard")
        trimmed = shard.trimmed(self.now_us)
        if position.after is not None:
            numbers = [self._sequence(record) for _, record in shard.records]
            begin = numbers.index(int(position.after)) + 1
            if begin - 1 < trimmed:
                raise TrimmedError("trimmed")
        elif position.start is not None:
            assert int(position.start) == shard.first
            begin = 0
            if trimmed:
                raise TrimmedError("trimmed")
        else:
            begin = trimmed
        return self._iterator(stream, shard, begin, self.empty_pages)

    def records(self, iterator: str) -> Page:
        self._answer("records")
        if iterator not in self._iterators:
            raise ExpiredIteratorError("expired")
        stream, shard, begin, made_us, empty = self._iterators[iterator]
        if self.now_us - made_us > 15 * MINUTE_US:
            raise ExpiredIteratorError("expired")
        if begin < shard.trimmed(self.now_us):
            raise TrimmedError("trimmed")
        if empty:
            return Page([], self._iterator(stream, shard, begin, empty - 1))
        end = min(begin + self.page_size, len(shard.records))
        found = [record for _, record in shard.records[begin:end]]
        if end == len(shard.records) and shard.closed_us is not None:
            return Page(found, None)
        return Page(found, self._iterator(stream, shard, end, self.empty_pages if found else 0))

    def line(self, record: Mapping[str, Any], arn: str, shard_id: str) -> StreamLine:
        assert shard_id.startswith("shardId-")
        return dynamodb_line(record, arn)

    # --- inside

    def _sequence(self, record: dict[str, Any]) -> int:
        return int(record["dynamodb"]["SequenceNumber"])

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        self.now_us += CALL_US
        self.every_call()
        if self.throttles:
            self.throttles -= 1
            raise ThrottledError("slow down")

    def _listed(self) -> list[SimStream]:
        return [one for one in self._streams if one.off_us is None or one.off_us >= self.now_us - DAY_US]

    def _find(self, arn: str) -> SimStream:
        for stream in self._listed():
            if stream.arn == arn:
                return stream
        raise StreamGoneError("no such stream")

    def _open_shards(self, stream: SimStream) -> list[SimShard]:
        return [shard for shard in stream.shards.values() if shard.closed_us is None]

    def _open(self, stream: SimStream, parent_id: str | None, buckets: range, adjacent_id: str | None = None) -> None:
        shard_id = f"shardId-{len(stream.shards):020}-{len(self._streams):08}"
        first = self._number()
        stream.shards[shard_id] = SimShard(shard_id, parent_id, buckets, first, adjacent_id=adjacent_id)

    def _close(self, shard: SimShard) -> None:
        shard.closed_us, shard.last = self.now_us, self._number()

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _iterator(self, stream: SimStream, shard: SimShard, begin: int, empty: int) -> str:
        self._made += 1
        name = f"iterator-{self._made}"
        self._iterators[name] = (stream, shard, begin, self.now_us, empty)
        return name

    def _record(self, key: int, old: int | None, new: int | None, number: int) -> dict[str, Any]:
        keys = {"id": {"N": str(key)}}
        body: dict[str, Any] = {
            "ApproximateCreationDateTime": datetime.fromtimestamp(self.now_us // SECOND_US, UTC),
            "Keys": keys,
            "SequenceNumber": str(number),
            "SizeBytes": 10,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        }
        if new is not None:
            body["NewImage"] = {**keys, "v": {"N": str(new)}, "b": {"B": bytes([new % 256])}}
        if old is not None:
            body["OldImage"] = {**keys, "v": {"N": str(old)}, "b": {"B": bytes([old % 256])}}
        name = "REMOVE" if new is None else "INSERT" if old is None else "MODIFY"
        return {
            "eventID": f"{number:032x}",
            "eventName": name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "eu-west-1",
            "dynamodb": body,
        }


def source_items(items: Mapping[int, int]) -> list[str]:
    """The items of a table as sorted texts, each with sorted attributes."""
    texts = (
        {"id": {"N": str(key)}, "v": {"N": str(value)}, "b": {"B": base64.b64encode(bytes([value % 256])).decode()}}
        for key, value in items.items()
    )
    return sorted(json.dumps(item, sort_keys=True) for item in texts)


@dataclass
class SimulatedKinesis(SimulatedStreams):
    """A table and its Kinesis stream, which outlives the replication and the table, and trims records without an error."""

    def disable(self) -> None:
        """Switch the replication off; the stream stays."""
        if self.running is not None:
            self._streams[-1].off_us = self.now_us

    def enable(self, shards: int = 1) -> None:
        """Switch the replication on, to the stream that there is."""
        if self._streams:
            self._streams[-1].off_us = None
        else:
            super().enable(shards)

    def merge(self, pick: int = 0) -> None:
        """Merge two adjacent open shards into one."""
        stream = self._streams[-1]
        shards = sorted(self._open_shards(stream), key=lambda shard: shard.buckets.start)
        if len(shards) > 1:
            one, other = shards[pick % (len(shards) - 1) :][:2]
            self._close(one)
            self._close(other)
            self._open(stream, one.shard_id, range(one.buckets.start, other.buckets.stop), other.shard_id)

    def describe(self, arn: str) -> Stream:
        self._answer("describe")
        stream = self._find(arn)
        shards = tuple(
            Shard(
                one.shard_id,
                one.parent_id,
                str(one.first),
                None if one.last is None else str(one.last),
                one.adjacent_id,
            )
            for one in stream.shards.values()
            if not one.is_gone(self.now_us)
        )
        return Stream(arn, stream.created_us, stream.off_us is None, "", shards, DAY_US, reports_trimmed=False)

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        self._answer("iterator")
        stream = self._find(arn)
        shard = stream.shards.get(shard_id)
        if shard is None or shard.is_gone(self.now_us):
            raise StreamGoneError("no such shard")
        begin = 0
        if position.after is not None:
            begin = sum(1 for _, record in shard.records if self._sequence(record) <= int(position.after))
        return self._iterator(stream, shard, begin, self.empty_pages)

    def records(self, iterator: str) -> Page:
        if iterator not in self._iterators:
            raise ExpiredIteratorError("expired")
        stream, shard, begin, made_us, empty = self._iterators[iterator]
        self._iterators[iterator] = stream, shard, max(begin, shard.trimmed(self.now_us + CALL_US)), made_us, empty
        page = super().records(iterator)
        ends = page.next_iterator is None or self._iterators[page.next_iterator][2] == len(shard.records)
        return Page(page.records, page.next_iterator, 0 if ends else 1000)

    def line(self, record: Mapping[str, Any], arn: str, shard_id: str) -> StreamLine:
        assert arn.startswith("arn:")
        return kinesis_line(record, shard_id)

    def _sequence(self, record: dict[str, Any]) -> int:
        return int(record["SequenceNumber"])

    def _listed(self) -> list[SimStream]:
        return self._streams

    def _record(self, key: int, old: int | None, new: int | None, number: int) -> dict[str, Any]:
        captured = super()._record(key, old, new, number)
        body = captured["dynamodb"]
        body = {name: body[name] for name in ("Keys", "NewImage", "OldImage") if name in body}
        for image in body.values():
            if "b" in image:  # binary is encoded twice
                once = base64.b64encode(image["b"]["B"])
                image["b"] = {"B": base64.b64encode(once).decode()}
        times = {
            "ApproximateCreationDateTime": self.now_us,
            "ApproximateCreationDateTimePrecision": "MICROSECOND",
        }
        names = {"eventID": captured["eventID"], "eventName": captured["eventName"], "tableName": self.table_name}
        data = json.dumps({**names, "recordFormat": "application/json", "dynamodb": {**body, **times}}).encode()
        return {"Data": data, "SequenceNumber": str(number), "ApproximateArrivalTimestamp": self.now()}
