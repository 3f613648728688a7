"""What commands take whose time is nearly all imports: seconds and processor time of whole processes.

    python -m ddb_lake_tests.benchmarks.startup WAREHOUSE RUNS

Prints, by command, the figures of each run as JSON. WAREHOUSE: a lake with the benchmarks' table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from ddb_lake_tests.benchmarks.data import KEY, TABLE

COMMANDS = {"--help": ("--help",), "status": ("status",), "import ddb_lake": None, "open a lake in Python": None}
_PROGRAMS = {
    "import ddb_lake": "import ddb_lake",
    "open a lake in Python": "import ddb_lake; ddb_lake.open('ddb_lake.yaml').close()",
}


def main(warehouse: str, runs: str) -> None:
    """Run each command some times after a first run, which may compile modules."""
    with tempfile.TemporaryDirectory() as folder:
        table = {"name": TABLE, "key": list(KEY)}
        lake = {"type": "ddb_lake.DynamoDBLakeComponent", "attributes": {"warehouse": warehouse, "tables": [table]}}
        (Path(folder) / "ddb_lake.yaml").write_text(yaml.safe_dump(lake), encoding="utf-8")
        found = {name: [run(name, folder) for _ in range(1 + int(runs))][1:] for name in COMMANDS}
    print(json.dumps(found))


def run(name: str, folder: str) -> dict[str, Any]:
    """The figures of one process."""
    arguments = COMMANDS[name]
    command = ["-c", _PROGRAMS[name]] if arguments is None else ["-m", "ddb_lake.cli", *arguments]
    before, started = os.times(), time.monotonic()
    subprocess.run([sys.executable, *command], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    seconds, after = time.monotonic() - started, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return {"seconds": seconds, "cpu": cpu}


if __name__ == "__main__":
    main(*sys.argv[1:])
