"""Time by the number of attributes of an item: an export loaded and its items changed, with the default memory.

    python -m ddb_lake_tests.benchmarks.wide [--items N] [--widths 100,1000]

Processor time of one process for each width, which other work on the machine does not lengthen. The goal: ten times the
attributes take at most 12 times as long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.benchmarks.data import EXPORT_ID, EXPORT_US, TABLE, _write_lines, _write_manifests

GOAL = 12
_KINDS = (("S", "'value ' || {h}"), ("N", "{h}"), ("N", "{h} || '.' || (1 + {h} % 9)"), ("S", "md5({h}::VARCHAR)"))


def item_sql(width: int, version: int) -> str:
    """SQL of the JSON text of item `i`, of so many attributes."""
    attributes = []
    for number in range(width - 1):
        tag, text = _KINDS[number % len(_KINDS)]
        value = text.replace("{h}", f"(i * 31 + {number * 7 + version})")
        attributes.append(f""" ',"attribute_{number}":{{"{tag}":"', {value}, '"}}'""")
    return f"""concat('{{"pk":{{"S":"', i, '"}}', {", ".join(attributes)}, '}}')"""


def make_inputs(folder: Path, items: int, width: int) -> tuple[Path, Path]:
    """A full export of items of so many attributes, and one object with a change of each of them."""
    data = folder / "AWSDynamoDB" / EXPORT_ID / "data"
    landed = folder / "landed" / "2023/11/15/00"
    data.mkdir(parents=True)
    landed.mkdir(parents=True)
    head = (
        '\'{"awsRegion":"eu-west-1","eventID":"\' || i || \'","eventName":"MODIFY","recordFormat":"application/json",'
    )
    record = (
        head + f'"tableName":"{TABLE}","dynamodb":{{"ApproximateCreationDateTime":\' || ({EXPORT_US + 10**9} + i) ||'
        ' \',"Keys":{"pk":{"S":"\' || i || \'"}},"NewImage":\' || ' + item_sql(width, 1) + " ||"
        ' \',"ApproximateCreationDateTimePrecision":"MICROSECOND"},"eventSource":"aws:dynamodb"}\''
    )
    with duckdb.connect() as con:
        _write_lines(
            con, f"SELECT '{{\"Item\":' || {item_sql(width, 0)} || '}}' FROM range({items}) t(i)", data / "0.json.gz"
        )
        _write_lines(con, f"SELECT {record} FROM range({items}) t(i)", landed / "stream-1-2023-11-15-00-00-00-0.gz")
    _write_manifests(data.parent, items, 1)
    return folder / "AWSDynamoDB", folder / "landed"


def timed(work: Any) -> tuple[float, Any]:
    """The processor time of some work, and what it gives."""
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def measure(items: int, width: int) -> Iterator[tuple[str, float]]:
    """Each stage and its processor time; the items afterwards must be as many."""
    with tempfile.TemporaryDirectory() as scratch:
        export, landed = make_inputs(Path(scratch), items, width)
        settings = {"warehouse": f"{scratch}/lake", "tables": [{"name": TABLE, "key": ["pk"]}]}
        with open_lake(parse_settings(settings, "benchmark")) as lake:
            seconds, loaded = timed(lambda: load_export(lake, TABLE, str(export)).rows)
            yield "load", seconds
            seconds, applied = timed(lambda: apply_objects(lake, TABLE, [str(landed)]).current[TABLE].upserted)
            yield "apply", seconds
            seconds, dumped = timed(lambda: sum(1 for _ in dump_items(lake, TABLE)))
            yield "dump", seconds
        if not loaded == applied == dumped == items:
            raise SystemExit(f"{items} items: {loaded} loaded, {applied} changed, {dumped} dumped")


def main() -> int:
    """Measure each width in a process of its own; 1 if the last takes more than the goal."""
    parser = argparse.ArgumentParser(prog="python -m ddb_lake_tests.benchmarks.wide", description=__doc__)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--widths", default="100,1000", help="attributes of an item, with commas")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(dict(measure(given.items, given.measure))))
        return 0
    found: dict[int, dict[str, float]] = {}
    for width in map(int, given.widths.split(",")):
        command = [sys.executable, "-m", parser.prog.split()[-1], "--items", str(given.items), "--measure", str(width)]
        found[width] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    first, *others = found
    print(f"{given.items} items" + "".join(f"{f'{width} attributes':>18}" for width in found) + "   ratio")
    worst = 0.0
    for stage, seconds in found[first].items():
        ratio = max(found[other][stage] for other in others or [first]) / seconds
        worst = max(worst, ratio)
        print(f"{stage:>10}" + "".join(f"{found[width][stage]:>16.2f} s" for width in found) + f"   {ratio:.1f}")
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
