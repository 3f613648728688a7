"""A day of `ddb-lake follow` in accelerated time: a commit of one table every five seconds, 17,280 in all.

    python -m ddb_lake_tests.benchmarks.follow_day [--commits 17280] [--changes 500] [--rows 100000] [--every 500]

The follower is stepped by hand, on a clock that advances by its interval. So it does the work that it does in a day: turns, leases,
planning, slices of compaction, and each hour the removal of files. Each `--every` commits one line has the state: snapshots,
manifests, files and the size of metadata.json of the table and its changelog, the processor time of planning a scan, and what was
written for each byte that landed. At the end the items are compared with the source, and the time of reading them with the
time after a complete compaction. The exit status is 1 if an item differs or a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake.metadata_files import snapshot_manifests
from ddb_lake.lake.scan import live_files, scan_table
from ddb_lake.pipeline.capture.streams import StreamReader
from ddb_lake.pipeline.follow.follower import CLEAN_EVERY_S, Follower
from ddb_lake.pipeline.follow.leases import LeaseKeeper
from ddb_lake.pipeline.follow.table import FollowedTable, FollowOptions
from ddb_lake.pipeline.maintain.compact import CompactResult, clean_up_table, compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.benchmarks.memory_source import Visible, differing_items, memory_source, resident_mb
from ddb_lake_tests.support.remote_stream import RemoteTable

NAME = "t0"
AMPLIFICATION = 6.0
READ_RATIO = 1.3
READS = 9


@dataclass
class Clock:
    """The simulated time, in seconds since the epoch."""

    at_s: float

    def seconds(self) -> float:
        return self.at_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at_s, UTC)

    def advance(self, seconds: float) -> None:
        self.at_s += seconds


@dataclass
class Written:
    """The bytes of all data and delete files that were ever written, and of all that landed."""

    folder: Path

    def __post_init__(self) -> None:
        self._known: set[str] = set()
        self.parquet_bytes = 0
        self.landed_bytes = 0

    def look(self) -> None:
        """Add the files that are new. Nothing is removed before it is a day old."""
        for path in self.folder.rglob("*"):
            if path.suffix in (".parquet", ".gz") and str(path) not in self._known:
                self._known.add(str(path))
                size = path.stat().st_size
                if path.suffix == ".gz":
                    self.landed_bytes += size
                else:
                    self.parquet_bytes += size

    @property
    def amplification(self) -> float:
        """The bytes written for each byte that landed."""
        return self.parquet_bytes / max(1, self.landed_bytes)


def _shape(lake: Lake, suffix: str) -> dict[str, Any]:
    """What a reader of an Iceberg table has to plan with."""
    table = lake.catalog.table(NAME + suffix)
    assert table is not None
    snapshot = table.current_snapshot()
    assert snapshot is not None
    began = time.process_time()
    live = live_files(table)
    plan_ms = 1000 * (time.process_time() - began)
    return {
        "snapshots": len(table.snapshots()),
        "manifests": len(snapshot_manifests(table.io, snapshot, table.name()[-1])),
        "data_files": len(live.data),
        "delete_files": len(live.deletes),
        "metadata_kb": Path(table.metadata_location.removeprefix("file://")).stat().st_size // 1024,
        "plan_ms": round(plan_ms, 1),
    }


def _read_s(lake: Lake) -> float:
    """The processor time of reading all rows and columns; the least of several times."""
    times = []
    for _ in range(READS):
        began = time.process_time()
        table = lake.current(NAME)
        assert table is not None
        with lake.session() as session:
            session.value(f"SELECT max(hash(COLUMNS(*))) FROM {scan_table(table).sql()}")
        times.append(time.process_time() - began)
    return min(times)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the benchmark in a folder."""
    clock, chance = Clock(time.time()), random.Random(1)
    entry = {"name": NAME, "key": ["id"], "changes": {"streams": True}}
    settings = parse_settings({"warehouse": str(folder), "tables": [entry]}, "benchmark")
    with memory_source([NAME]) as source, open_lake(settings) as lake:
        lake.now = clock.now
        heard = Visible(source)
        reader = StreamReader.of(lake, NAME, RemoteTable(source, NAME), clock.advance, clock.seconds)
        table = FollowedTable(lake, NAME, reader, clock.seconds)
        follower = Follower(
            lake,
            {NAME: table},
            heard,
            FollowOptions(),
            LeaseKeeper(lake, [NAME], clock=clock.seconds),
            clock=clock.seconds,
            pause=clock.advance,
        )
        written, costs, cleaned_at = Written(folder), list[float](), clock.at_s
        follower.step()
        for number in range(1, options.commits + 1):
            source.put(NAME, [chance.randrange(options.rows) for _ in range(options.changes)], number)
            began = time.process_time()
            while table.read(1 << 26):
                pass
            while follower.step():
                pass
            costs.append(time.process_time() - began)
            clock.advance(FollowOptions().interval_s)
            if clock.at_s - cleaned_at >= CLEAN_EVERY_S:
                written.look()
                clean_up_table(lake, CompactResult(NAME, True, ""))
                cleaned_at = clock.at_s
            if number % options.every == 0 or number == options.commits:
                written.look()
                state = {
                    "commits": number,
                    "commit_cpu_ms": round(1000 * statistics.median(costs[-options.every :])),
                    "longest_cpu_ms": round(1000 * max(costs[-options.every :])),
                    "rss_mb": resident_mb(),
                    "amplification": round(written.amplification, 2),
                    "works": dict(heard.works),
                    "current": _shape(lake, ""),
                    "changes": _shape(lake, "_changes"),
                    "objects": _shape(lake, "_objects"),
                }
                print(json.dumps(state), flush=True)
        followed_s = _read_s(lake)
        records, differing = source.records(), differing_items(lake, NAME, source.items(NAME))
        compact_table(lake, NAME, force=True)
        ratio = followed_s / _read_s(lake)
    return {
        "commits": options.commits,
        "records": records,
        "turns": heard.turns,
        "errors": heard.errors[:5],
        "amplification": round(written.amplification, 2),
        "read_ratio": round(ratio, 2),
        "differing_items": differing,
        "met": written.amplification <= AMPLIFICATION and ratio <= READ_RATIO and not differing and not heard.errors,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=17_280)
    parser.add_argument("--changes", type=int, default=500, help="changes of a commit")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=500, help="print the state after so many commits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    print(json.dumps(figures))
    raise SystemExit(int(not figures["met"]))


if __name__ == "__main__":
    main()
