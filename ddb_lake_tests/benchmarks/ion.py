"""Exports in Amazon Ion: processor time to convert an item, and of a load compared with the same items in DynamoDB JSON.

python -m ddb_lake_tests.benchmarks.ion --items 20000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ddb_lake.core.decode.ion_lines import json_line
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.sandbox.ion import ion_line
from ddb_lake_tests.support.export_files import full, item
from ddb_lake_tests.support.folder_lake import lake


def cpu_s(work: Callable[[], object]) -> float:
    """Processor seconds of some work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Convert, load both formats, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    count = parser.parse_args().items
    in_json = full([item(f"k{number}", n=number, s="text" * 20, t={"SS": ["a", "b"]}) for number in range(count)])
    lines = [ion_line(line) for line in in_json.files[0]]
    encoded = [line.encode() for line in lines]
    print(f"convert {cpu_s(lambda: list(map(json_line, encoded))) / count * 1e6:8.1f} us an item")
    for name, export in (("JSON", in_json), ("Ion", replace(in_json, files=[lines], summary={"outputFormat": "ION"}))):
        with tempfile.TemporaryDirectory() as folder, lake(Path(folder) / "lake", "orders", ["id"]) as opened:
            manifest = str(export.write(Path(folder) / "exports"))
            print(f"load {name:4}{cpu_s(lambda uri=manifest, to=opened: load_export(to, 'orders', uri)):8.2f} CPU s")  # type: ignore[misc]


if __name__ == "__main__":
    main()
