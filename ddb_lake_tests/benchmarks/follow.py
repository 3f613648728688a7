"""From a write to its visibility, with `ddb-lake follow`: a source in another process, real threads, a real lake in a folder.

    python -m ddb_lake_tests.benchmarks.follow [--seconds 600] [--rate 1000] [--tables 10] [--source streams|kinesis]
    python -m ddb_lake_tests.benchmarks.follow --backlog 200000        # catching up

The source writes changes to its tables at a rate. A change is visible when the commit of `current` that has it is done: the turn
ends then, and each query that begins afterwards sees it. The source has one shard for each table, so records land in the order
of writing, and the number of landed records says which writes a turn made visible. The first seconds, in which the tables are
created, do not count. At the end the lake is compared with the source, item by item. Prints the figures as JSON; processor time
and memory are those of the follower alone, the memory each minute.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.capture.streams import StreamReader
from ddb_lake.pipeline.follow.follower import Follower
from ddb_lake.pipeline.follow.leases import LeaseKeeper
from ddb_lake.pipeline.follow.table import FollowedTable, FollowOptions
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.benchmarks.memory_source import Visible, differing_items, memory_source, resident_mb
from ddb_lake_tests.support.remote_stream import RemoteTable

MEMORY_EVERY_S = 60.0
SHARD = "shardId-000000000000"


def _sample(stop: threading.Event, samples: list[int]) -> None:
    """Keep the memory of the process, each minute."""
    while not stop.wait(MEMORY_EVERY_S):
        samples.append(resident_mb())
        print(f"memory: {samples[-1]} MB", file=sys.stderr, flush=True)


def _follower(lake: Lake, names: Sequence[str], source: Any, heard: Visible) -> Follower:
    followed = {}
    for name in names:
        reader = StreamReader.of(lake, name, RemoteTable(source, name))
        followed[name] = FollowedTable(lake, name, reader)
    return Follower(lake, followed, heard, FollowOptions(), LeaseKeeper(lake, list(names)))


def _wait(heard: Visible, source: Any, most_s: float) -> None:
    until = time.monotonic() + most_s
    while waiting := source.waiting():
        assert time.monotonic() < until, f"{waiting} records are not visible: {heard.errors[:3]}"
        time.sleep(0.1)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the benchmark in a folder."""
    kinesis = options.source == "kinesis"
    names = [f"t{number}" for number in range(options.tables)]
    entries = [
        {"name": name, "key": ["id"], "changes": {"kinesis": name} if kinesis else {"streams": True}} for name in names
    ]
    stop, memory = threading.Event(), list[int]()
    settings = parse_settings({"warehouse": str(folder), "tables": entries}, "benchmark")
    with memory_source(names, kinesis) as source, open_lake(settings) as lake:
        source.fill(options.backlog)
        heard = Visible(source)
        began, cpu = time.monotonic(), time.process_time()
        threads = [
            threading.Thread(target=_follower(lake, names, source, heard).run, args=(stop,)),
            threading.Thread(target=_sample, args=(stop, memory)),
        ]
        for thread in threads:
            thread.start()
        if not options.backlog:
            source.write(options.rate, options.seconds)
        _wait(heard, source, 600)
        seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu
        stop.set()
        for thread in threads:
            thread.join()
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        differing = sum(differing_items(lake, name, source.items(name)) for name in names)
        latencies, records = source.latencies_s(), source.records()
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
        "work": dict(heard.works),
        "errors": heard.errors[:5],
        "follower_cpu_s": round(cpu_s, 1),
        "rss_mb_each_minute": memory,
        "peak_rss_mb": peak_mb,
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
