"""The source of the benchmarks of `ddb-lake follow`: tables in memory, in a process of their own, and what became visible."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha512
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from ddb_lake.aws.streams import Page
from ddb_lake.core.capture.shards import Shard, ShardPosition, Stream
from ddb_lake.pipeline.follow.table import Turn
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.work import Work
from ddb_lake.pipeline.read.dump import dump_items

KEYS = 20_000
PAGE_RECORDS = 1_000
WARM_S = 15.0
SHARD = "shardId-000000000000"


@dataclass
class MemoryTable:
    """A table with one shard in memory."""

    name: str
    kinesis: bool
    written: list[dict[str, Any]] = field(default_factory=list)
    written_at: list[float] = field(default_factory=list)
    items: dict[int, int] = field(default_factory=dict)

    def write(self, key: int, value: int) -> None:
        """Put an item."""
        number, keys = len(self.written) + 1, {"id": {"N": str(key)}}
        image = {
            **keys,
            "v": {"N": str(value)},
            "text": {"S": sha512(b"%d %d" % (key, value)).hexdigest()},
            "tags": {"SS": ["a", "b"]},
        }
        body: dict[str, Any] = {"Keys": keys, "NewImage": image, "SizeBytes": 250}
        name = "MODIFY" if key in self.items else "INSERT"
        frame = {"eventID": f"{number:032x}", "eventName": name, "awsRegion": "eu-west-1"}
        now = datetime.now(UTC)
        self.items[key] = value
        if self.kinesis:
            times = {
                "ApproximateCreationDateTime": int(now.timestamp() * 1e6),
                "ApproximateCreationDateTimePrecision": "MICROSECOND",
            }
            data = json.dumps({**frame, "tableName": self.name, "dynamodb": {**body, **times}}).encode()
            record = {"Data": data, "SequenceNumber": str(number), "ApproximateArrivalTimestamp": now}
        else:
            more = {
                "ApproximateCreationDateTime": now.replace(microsecond=0),
                "SequenceNumber": f"{number:024}",
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            }
            record = {**frame, "eventVersion": "1.1", "eventSource": "aws:dynamodb", "dynamodb": {**body, **more}}
        self.written_at.append(time.monotonic())
        self.written.append(record)

    @property
    def _arn(self) -> str:
        return f"arn:aws:dynamodb:eu-west-1:111122223333:table/{self.name}/stream/1"

    def table_id(self) -> str | None:
        return self.name

    def streams(self) -> list[str]:
        return [self._arn]

    def describe(self, arn: str) -> Stream:
        shards = (Shard(SHARD, None, "0"),)
        return Stream(arn, 1, True, "NEW_AND_OLD_IMAGES", shards, reports_trimmed=not self.kinesis)

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        assert (arn, shard_id) == (self._arn, SHARD)
        return str(int(position.after or 0))

    def records(self, iterator: str) -> Page:
        """The records after a position."""
        found = self.written[int(iterator) : int(iterator) + PAGE_RECORDS]
        end = int(iterator) + len(found)
        return Page(found, str(end), int(end < len(self.written)) if self.kinesis else None)


class Source:
    """All tables, in a process of their own: `serve` starts it. It also notes when each write became visible."""

    def __init__(self, names: Sequence[str], kinesis: bool) -> None:
        self._tables = {name: MemoryTable(name, kinesis) for name in names}
        self._seen = dict.fromkeys(names, 0)
        self._latencies_s = array("d")
        self._since = 0.0

    def call(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a method of a table's source."""
        return getattr(self._tables[name], method)(*arguments)

    def fill(self, count: int) -> None:
        """Write a backlog."""
        names = list(self._tables)
        for number in range(count):
            self._tables[names[number % len(names)]].write(number % KEYS, number)

    def put(self, name: str, keys: Sequence[int], value: int) -> None:
        """Write some items of a table now."""
        for key in keys:
            self._tables[name].write(key, value)

    def write(self, rate: float, seconds: float) -> None:
        """Write changes at a rate, evenly over the tables; those of the first `WARM_S` do not count for the latency."""
        tables = list(self._tables.values())
        chance, began, count = random.Random(1), time.monotonic(), 0
        self._since = began + WARM_S
        while (elapsed := time.monotonic() - began) < seconds:
            while count < elapsed * rate:
                tables[count % len(tables)].write(chance.randrange(KEYS), count)
                count += 1
            time.sleep(0.02)

    def visible(self, name: str, records: int, now: float) -> None:
        """The next records of a table are visible at a time of the monotonic clock, which all processes share."""
        begin = self._seen[name]
        self._seen[name] = end = begin + records
        self._latencies_s.extend(now - at for at in self._tables[name].written_at[begin:end] if at >= self._since)

    def waiting(self) -> int:
        """The records that are not visible."""
        return sum(len(table.written) - self._seen[name] for name, table in self._tables.items())

    def records(self) -> int:
        """The records that were written."""
        return sum(len(table.written) for table in self._tables.values())

    def items(self, name: str) -> dict[int, int]:
        """The items of a table."""
        return self._tables[name].items

    def latencies_s(self) -> list[float]:
        """The latencies, sorted."""
        return sorted(self._latencies_s)


class _Server(BaseManager):
    """Serves a `Source` in a process; each thread of the follower has a connection of its own."""


_Server.register("Source", Source)


@contextmanager
def memory_source(names: Sequence[str], kinesis: bool = False) -> Iterator[Any]:
    """A `Source` in a process of its own, so that its memory and processor time are not those of the follower."""
    with _Server(ctx=multiprocessing.get_context("spawn")) as server:
        yield server.Source(names, kinesis)  # type: ignore[attr-defined]  # registered above


@dataclass
class Visible:
    """A listener that reports to the source what became visible."""

    source: Any
    turns: int = 0
    turn_s: float = 0.0
    errors: list[str] = field(default_factory=list)
    works: Counter[str] = field(default_factory=Counter)

    def turn(self, turn: Turn) -> None:
        assert turn.streams is not None
        self.source.visible(turn.table, turn.streams.records, time.monotonic())
        self.turns += 1
        self.turn_s += turn.seconds

    def work(self, work: Work, result: Any) -> None:
        self.works[work.kind] += 1

    def failed(self, table: str, error: Exception) -> None:
        self.errors.append(f"{table}: {type(error).__name__}: {error}")

    def ticked(self, lags_s: Mapping[str, float]) -> None:
        pass

    def holds(self, tables: Sequence[str], waiting: Sequence[str]) -> None:
        pass


def resident_mb() -> int:
    """The memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 1024**2


def differing_items(lake: Lake, name: str, items: Mapping[int, int]) -> int:
    """How many items differ between the lake and the source."""
    found = {}
    for line in dump_items(lake, name):
        item = json.loads(line)["Item"]
        found[int(item["id"]["N"])] = int(item["v"]["N"])
    return sum(1 for key in found.keys() | items.keys() if found.get(key) != items.get(key))
