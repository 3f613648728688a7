"""From a write to its visibility, with `ddb-lake follow`: a source in memory, real threads, a real lake in a folder.

    python -m ddb_lake_tests.benchmarks.follow [--seconds 600] [--rate 1000] [--tables 10] [--source streams|kinesis]
    python -m ddb_lake_tests.benchmarks.follow --backlog 200000        # catching up

A thread writes changes to the tables at a rate. A change is visible when the commit of `current` that has it is done: the turn
ends then, and each query that begins afterwards sees it. The source has one shard for each table, so records land in the order
of writing, and the number of landed records says which writes a turn made visible. The first seconds, in which the tables are
created, do not count. At the end the lake is compared with the source, item by item. Prints the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddb_lake.aws.streams import Page
from ddb_lake.config import parse_settings
from ddb_lake.core.capture.shards import Shard, ShardPosition, Stream
from ddb_lake.core.capture.stream_lines import StreamLine, dynamodb_line, kinesis_line
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.capture.streams import StreamReader
from ddb_lake.pipeline.follow.follower import Follower
from ddb_lake.pipeline.follow.leases import LeaseKeeper
from ddb_lake.pipeline.follow.table import FollowedTable, FollowOptions, Turn
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.work import Work
from ddb_lake.pipeline.read.dump import dump_items

KEYS = 20_000
PAGE_RECORDS = 1_000
WARM_S = 15.0
SHARD = "shardId-000000000000"


@dataclass
class MemoryTable:
    """A table with one shard in memory; it is the `StreamSource` of the table."""

    name: str
    kinesis: bool
    records: list[dict[str, Any]] = field(default_factory=list)
    written_at: list[float] = field(default_factory=list)
    items: dict[int, int] = field(default_factory=dict)

    def write(self, key: int, value: int) -> None:
        """Put an item."""
        number, keys = len(self.records) + 1, {"id": {"N": str(key)}}
        image = {**keys, "v": {"N": str(value)}, "text": {"S": "x" * 200}, "tags": {"SS": ["a", "b"]}}
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
        self.records.append(record)

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

    def records_after(self, begin: int) -> list[dict[str, Any]]:
        """One page."""
        return self.records[begin : begin + PAGE_RECORDS]

    def line(self, record: Mapping[str, Any], arn: str, shard_id: str) -> StreamLine:
        return kinesis_line(record, shard_id) if self.kinesis else dynamodb_line(record, arn)


class MemorySource:
    """The `StreamSource` of a `MemoryTable`, whose attribute `records` is its data."""

    def __init__(self, table: MemoryTable) -> None:
        self.table_id, self.streams, self.describe = table.table_id, table.streams, table.describe
        self.iterator, self.line = table.iterator, table.line
        self._table = table

    def records(self, iterator: str) -> Page:
        found = self._table.records_after(int(iterator))
        end = int(iterator) + len(found)
        behind_ms = None
        if self._table.kinesis:
            behind_ms = 0 if end >= len(self._table.records) else 1
        return Page(found, str(end), behind_ms)


@dataclass
class Visible:
    """A listener that computes when each write became visible."""

    tables: Mapping[str, MemoryTable]
    latencies_s: list[float] = field(default_factory=list)
    since: float = 0.0
    turns: int = 0
    turn_s: float = 0.0
    errors: list[str] = field(default_factory=list)
    works: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def turn(self, turn: Turn) -> None:
        now, table = time.monotonic(), self.tables[turn.table]
        assert turn.streams is not None
        begin = self.seen.get(turn.table, 0)
        end = begin + turn.streams.records
        self.latencies_s += [now - at for at in table.written_at[begin:end] if at >= self.since]
        self.seen[turn.table] = end
        self.turns += 1
        self.turn_s += turn.seconds

    def work(self, work: Work, result: Any) -> None:  # the protocol's
        self.works[work.kind] = self.works.get(work.kind, 0) + 1

    def failed(self, table: str, error: Exception) -> None:
        self.errors.append(f"{table}: {type(error).__name__}: {error}")

    def ticked(self, lags_s: Mapping[str, float]) -> None:
        pass

    def holds(self, tables: Sequence[str], waiting: Sequence[str]) -> None:
        pass


def _write(tables: Sequence[MemoryTable], rate: float, seconds: float) -> None:
    """Write changes at a rate, evenly over the tables."""
    chance, began, count = random.Random(1), time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        while count < elapsed * rate:
            tables[count % len(tables)].write(chance.randrange(KEYS), count)
            count += 1
        time.sleep(0.02)


def _follower(lake: Lake, tables: Mapping[str, MemoryTable], heard: Visible) -> Follower:
    followed = {}
    for name, table in tables.items():
        reader = StreamReader.of(lake, name, MemorySource(table))
        followed[name] = FollowedTable(lake, name, reader)
    return Follower(lake, followed, heard, FollowOptions(), LeaseKeeper(lake, list(tables)))


def _wait(heard: Visible, tables: Mapping[str, MemoryTable], most_s: float) -> None:
    until = time.monotonic() + most_s
    while any(heard.seen.get(name, 0) < len(table.records) for name, table in tables.items()):
        assert time.monotonic() < until, f"not all is visible: {heard.seen}, {heard.errors[:3]}"
        time.sleep(0.1)


def _differing(lake: Lake, table: MemoryTable) -> int:
    found = {}
    for line in dump_items(lake, table.name):
        item = json.loads(line)["Item"]
        found[int(item["id"]["N"])] = int(item["v"]["N"])
    return sum(1 for key in found.keys() | table.items.keys() if found.get(key) != table.items.get(key))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the benchmark in a folder."""
    kinesis = options.source == "kinesis"
    tables = {f"t{number}": MemoryTable(f"t{number}", kinesis) for number in range(options.tables)}
    entries = [
        {"name": name, "key": ["id"], "changes": {"kinesis": name} if kinesis else {"streams": True}} for name in tables
    ]
    heard, stop = Visible(tables), threading.Event()
    with open_lake(parse_settings({"warehouse": str(folder), "tables": entries}, "benchmark")) as lake:
        for number in range(options.backlog):
            tables[f"t{number % options.tables}"].write(number % KEYS, number)
        began, cpu = time.monotonic(), sum(os.times()[:4])
        heard.since = began + (0 if options.backlog else WARM_S)
        runner = threading.Thread(target=_follower(lake, tables, heard).run, args=(stop,))
        runner.start()
        if not options.backlog:
            _write(list(tables.values()), options.rate, options.seconds)
        _wait(heard, tables, 600)
        seconds = time.monotonic() - began
        stop.set()
        runner.join()
        differing = sum(_differing(lake, table) for table in tables.values())
    latencies = sorted(heard.latencies_s)
    records = sum(len(table.records) for table in tables.values())
    return {
        "source": options.source,
        "tables": options.tables,
        "records": records,
        "seconds": round(seconds, 1),
        "records_per_s": round(records / seconds),
        "p50_s": round(latencies[len(latencies) // 2], 2) if latencies else None,
        "p99_s": round(latencies[int(len(latencies) * 0.99)], 2) if latencies else None,
        "max_s": round(latencies[-1], 2) if latencies else None,
        "turns": heard.turns,
        "mean_turn_s": round(heard.turn_s / max(1, heard.turns), 3),
        "work": heard.works,
        "errors": heard.errors[:5],
        "cpu_s": round(sum(os.times()[:4]) - cpu, 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "differing_items": differing,
    }


def main() -> None:
    """Measure and print. The exit status is 1 if an item differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--source", choices=["streams", "kinesis"], default="streams")
    parser.add_argument(
        "--backlog", type=int, default=0, help="so many records wait at the start, and none are written"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    print(json.dumps(figures))
    raise SystemExit(int(figures["differing_items"] > 0))


if __name__ == "__main__":
    main()
