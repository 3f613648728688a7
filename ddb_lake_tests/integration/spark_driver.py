"""Runs the same work by DuckDB here and by Spark on a cluster, and tells how the lakes differ. A process of its own.

`python -m ddb_lake_tests.integration.spark_driver MASTER FOLDER SCENARIOS ITEMS` prints one JSON object: for each piece
of work the list of differences.
"""

from __future__ import annotations

import json
import os
import random
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ddb_lake.config import parse_settings
from ddb_lake.lake.files import live_files, scan_sql
from ddb_lake.stages import spark_load
from ddb_lake.stages.apply import apply_objects
from ddb_lake.stages.lake import Lake, open_lake
from ddb_lake.stages.load import load_export
from ddb_lake_tests.benchmarks.data import KEY, TABLE, make_export
from ddb_lake_tests.integration.contents import contents, faults, small_scenario
from ddb_lake_tests.integration.spark_cluster import SETTINGS
from ddb_lake_tests.integration.spark_faults import MARKER, write_then_die
from ddb_lake_tests.simulator import CORNERS, Scenario, write

CHOSEN = ("circuit_above_a_snapshot",)
"""Corners that need the base's images, in the second pass over the buckets."""


def main(master: str, folder: Path, scenarios: int, items: int) -> dict[str, list[str]]:
    """All the work; the differences by its name."""
    marker = folder / "worker-died"
    settings = {**SETTINGS, f"spark.executorEnv.{MARKER}": str(marker)}
    opener = _Opener(master, settings)
    chosen = {name: CORNERS[name]() for name in CHOSEN}
    chosen |= {f"scenario {seed}": small_scenario(seed) for seed in range(scenarios)}
    found = {name: history(opener, scenario, folder / name.replace(" ", "-")) for name, scenario in chosen.items()}
    found["repeated keys"] = repeated_keys(opener, folder)
    found["killed worker"] = killed_worker(opener, folder, items, marker)
    return found


class _Opener:
    def __init__(self, master: str, settings: dict[str, str]) -> None:
        self._spark = {"master": master, "settings": settings, "memory": "320MB"}

    def __call__(self, folder: Path, engine: str, name: str, key: Any) -> AbstractContextManager[Lake]:
        tables = [{"name": name, "key": list(key), "engine": engine}]
        return open_lake(parse_settings({"warehouse": str(folder), "spark": self._spark, "tables": tables}, "test"))


def history(opener: _Opener, scenario: Scenario, folder: Path) -> list[str]:
    """Everything landed, in a few steps in any order, by both engines."""
    folder.mkdir()
    write(scenario, folder)
    rnd = random.Random(4)
    objects = [str(folder / "landing" / key) for key in scenario.objects]
    rnd.shuffle(objects)
    steps = [("load", [str(folder / "exports" / str(number))]) for number in range(len(scenario.exports))]
    steps += [("apply", objects[: len(objects) // 2]), ("apply", objects)]
    rnd.shuffle(steps)
    held = {}
    problems: list[str] = []
    for engine in ("duckdb", "spark"):
        with opener(folder / engine, engine, scenario.table, scenario.key_names) as lake:
            for kind, uris in steps:
                if kind == "load":
                    load_export(lake, scenario.table, uris[0])
                else:
                    apply_objects(lake, scenario.table, uris)
            problems += [f"{engine}: {fault}" for fault in faults(lake, scenario)]
            held[engine] = contents(lake, [scenario.table])[scenario.table]
            problems += _leftovers(folder / engine, engine)
    problems += [f"{what} differs" for what in held["duckdb"] if held["duckdb"][what] != held["spark"][what]]
    return problems


def repeated_keys(opener: _Opener, folder: Path) -> list[str]:
    """An export under the wrong key is refused, in the same words, and leaves nothing."""
    said = {}
    for engine in ("duckdb", "spark"):
        where = folder / f"repeated-{engine}"
        with opener(where, engine, TABLE, ["customer"]) as lake:
            try:
                load_export(lake, TABLE, str(make_export(folder, 80)))
            except Exception as error:
                said[engine] = f"{type(error).__name__}: {error}"
            if list(where.rglob("*.parquet")):
                said[engine] = "left files"
    expected = "CheckFailed: "
    alike = said["duckdb"] == said["spark"] and said["spark"].startswith(expected)
    return [] if alike else [f"{engine}: {text}" for engine, text in said.items()]


def killed_worker(opener: _Opener, folder: Path, items: int, marker: Path) -> list[str]:
    """One of the workers dies when it has written, and not said so: the other does its work again."""
    export = str(make_export(folder, items))
    rows = {}
    spark_load.write_share = write_then_die
    for engine in ("duckdb", "spark"):
        with opener(folder / f"killed-{engine}", engine, TABLE, KEY) as lake:
            load_export(lake, TABLE, export)
            table = lake.current(TABLE)
            assert table is not None
            live = live_files(table).paths
            with lake.session() as session:
                query = (
                    f"SELECT count(*), count(DISTINCT _key_hash), sum(hash(r)) FROM {scan_sql(table.schema(), live)} r"
                )
                rows[engine] = session.rows(query)
    orphans = set(marker.read_text().split()) if marker.exists() else set()
    problems = [] if rows["duckdb"] == rows["spark"] else [f"rows differ: {rows}"]
    if not orphans or orphans & set(live) or not all(Path(path).exists() for path in orphans):
        problems.append(f"{len(orphans)} files of the killed task, {len(orphans & set(live))} of them in the table")
    return problems


def _leftovers(folder: Path, engine: str) -> list[str]:
    return [f"{engine}: {path.name} left in scratch" for path in folder.rglob("scratch/**/*.parquet")]


if __name__ == "__main__":
    told = main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(told), flush=True)
    os._exit(0)  # the session's JVM goes with its standard input
