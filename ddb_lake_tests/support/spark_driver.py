"""Runs the same work by DuckDB here and by Spark on a cluster, and reports how the lakes differ. A process of its own.

`python -m ddb_lake_tests.support.spark_driver MASTER FOLDER HISTORIES ITEMS [SEED] [--quick]` prints one JSON object: for each
piece of work the list of differences, and as `spark` the version of PySpark. Every corner of the simulator and so many
histories of the property suite are done, several at once: most of the time of a small one is spent waiting for Spark. With
`--quick` one corner, one spread history, and a worker that dies, unless ITEMS is 0.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pyspark
from hypothesis import Phase, given, seed, settings

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark import changelog, object_reader, snapshot_writer
from ddb_lake.spark.carrier import SparkCarrier
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake.spark.session import open_spark
from ddb_lake_tests.benchmarks.data import KEY, TABLE, make_changes, make_export
from ddb_lake_tests.simulator import CORNERS, Scenario, scenarios, write
from ddb_lake_tests.support.effort import PROFILE
from ddb_lake_tests.support.entity_walks import History, check, contents_of
from ddb_lake_tests.support.history_steps import differences, run_step, steps
from ddb_lake_tests.support.lake_contents import contents, small_scenario
from ddb_lake_tests.support.spark_cluster import SETTINGS
from ddb_lake_tests.support.spark_faults import MARKERS, find_then_die, write_new_then_die, write_then_die

AT_ONCE = int(os.environ.get("DDB_LAKE_SPARK_AT_ONCE", "4"))
SPREAD = 2
"""Small histories whose few rows are shared out to many tasks and buckets, as many rows would be."""


def main(
    master: str, folder: Path, histories: int, items: int, first_seed: int = 0, quick: bool = False
) -> dict[str, list[str]]:
    """All the work; the differences by its name."""
    settings = {**SETTINGS, f"spark.executorEnv.{MARKERS}": str(folder)}
    open_spark(master, settings)
    opener = _Opener(master, settings)
    usual = {name: corner() for name, corner in list(CORNERS.items())[: 1 if quick else None]}
    usual |= {f"history {n}": scenario for n, scenario in enumerate(drawn(histories // 2, first_seed))}
    spread = {
        f"scenario {n}": small_scenario(n + first_seed, keys=5, writes=20, objects=4)
        for n in range(1 if quick else SPREAD)
    }
    spread |= {f"spread {n}": one for n, one in enumerate(drawn(histories - histories // 2, first_seed + 1))}
    found = _all(opener, usual, folder)
    found["entities"] = entities(SparkCarrier(open_spark(master, settings)), folder)
    changelog.ONE_TASK_ROWS, changelog.BUCKET_ROWS, object_reader.LEAST_BYTES = 2, 5, 1
    found |= _all(opener, spread, folder)
    if not quick:
        found["several tables"] = several_tables(opener, folder)
        found["repeated keys"] = repeated_keys(opener, folder)
        found["killed executors"] = killed_executors(opener, folder, items)
    if items:
        found["killed worker"] = killed_worker(opener, folder, items)
    return found


def drawn(count: int, first_seed: int) -> list[Scenario]:
    """Histories as the property suite draws them."""
    found: list[Scenario] = []

    @seed(first_seed)
    @settings(max_examples=max(count, 1), phases=[Phase.generate], database=None, **PROFILE)
    @given(scenarios())
    def draw(scenario: Scenario) -> None:
        found.append(scenario)

    if count:
        draw()
    return found[:count]


class _Opener:
    def __init__(self, master: str, settings: dict[str, str]) -> None:
        self._spark = {"master": master, "settings": settings, "memory": "320MB"}

    def __call__(self, folder: Path, engine: str, name: str, key: Any, *others: str) -> AbstractContextManager[Lake]:
        tables = [{"name": name, "key": list(key), "engine": engine}]
        tables += [{"name": other, "key": list(key)} for other in others]
        return open_lake(parse_settings({"warehouse": str(folder), "spark": self._spark, "tables": tables}, "test"))


def _all(opener: _Opener, chosen: Mapping[str, Scenario], folder: Path) -> dict[str, list[str]]:
    def one(name: str, scenario: Scenario) -> list[str]:
        started = time.monotonic()
        try:
            problems = history(opener, scenario, folder / name.replace(" ", "-"))
        except Exception:  # reported with the findings of the others
            problems = [traceback.format_exc()[-2000:]]
        took_s = time.monotonic() - started
        print(f"{name}: {took_s:.1f} s, {len(problems)} differences", file=sys.stderr, flush=True)
        return problems

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="history") as pool:
        return dict(zip(chosen, pool.map(one, chosen, chosen.values()), strict=True))


def history(opener: _Opener, scenario: Scenario, folder: Path) -> list[str]:
    """Everything landed, in a few steps in any order, by both engines."""
    folder.mkdir()
    write(scenario, folder)
    held = {}
    problems: list[str] = []
    for engine in ("duckdb", "spark"):
        rnd = random.Random(folder.name)
        with opener(folder / engine, engine, scenario.table, scenario.key_names) as lake:
            for step in steps(scenario, folder, rnd):
                run_step(lake, scenario.table, step)
                if rnd.random() < 0.1:
                    compact_table(lake, scenario.table, force=True)
            problems += [f"{engine}: {fault}" for fault in differences(lake, scenario)]
            held[engine] = contents(lake, [scenario.table])[scenario.table]
            problems += _leftovers(folder / engine, engine)
    problems += [f"{what} differs" for what in held["duckdb"] if held["duckdb"][what] != held["spark"][what]]
    return problems


def several_tables(opener: _Opener, folder: Path) -> list[str]:
    """Records of three configured tables in the same objects: each gets its own, whichever engine reads them."""
    scenario = small_scenario(3, keys=5, writes=20, objects=4)
    where = folder / "several"
    where.mkdir()
    write(scenario, where)
    names = (scenario.table, scenario.table[:-1], f"x{scenario.table}")  # of the simulator's other tables
    held, told = {}, {}
    for engine in ("duckdb", "spark"):
        with opener(where / engine, engine, names[0], scenario.key_names, *names[1:]) as lake:
            result = apply_objects(lake, names[0], [str(where / "landing")])
            told[engine] = (dict(result.other_tables), {name: result.tables[name] for name in sorted(result.tables)})
            held[engine] = contents(lake, names)
    problems = [f"{name} differs" for name in names if held["duckdb"][name] != held["spark"][name]]
    if told["duckdb"] != told["spark"] or set(told["spark"][1]) != {*names}:
        problems.append(f"told otherwise: {told}")
    return problems


def entities(carrier: SparkCarrier, folder: Path) -> list[str]:
    """The tables of entities after changes, a full export and changes: columns and items are those of one machine."""
    held: list[Any] = []
    for engine, executor in {"duckdb": LocalExecutor, "spark": partial(SparkExecutor, carrier=carrier)}.items():
        walk = History(folder / f"entities-{engine}", 5, executor)
        walk.folder.mkdir()
        with walk.lake() as lake:
            for step in (walk.changes, walk.export, walk.changes, walk.compact, walk.all_arrive):
                step(lake)
            check(lake)
        held.append(contents_of(walk))
    return [f"{entity} differs" for entity in held[0] if held[0][entity] != held[1][entity]]


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


def killed_executors(opener: _Opener, folder: Path, items: int) -> list[str]:
    """An executor dies in the shuffle that finds duplicates, and one when it has written new records."""
    first, *others = sorted(make_changes(folder, items, items // 4, 1).rglob("*.gz"))
    again = first.with_name(f"again-{first.name}")
    again.write_bytes(first.read_bytes())
    changelog.ONE_TASK_ROWS = changelog.BUCKET_ROWS = 500
    changelog.find_repeated, changelog.write_new = find_then_die, write_new_then_die

    def work(lake: Lake) -> None:
        apply_objects(lake, TABLE, [str(first)])
        result = apply_objects(lake, TABLE, [str(path) for path in (again, *others)])
        assert result.duplicates > 0, "one object was delivered twice"

    problems = _compared(opener, folder, "executors", work)
    return problems if (folder / "shuffle").exists() else [*problems, "no worker died in the shuffle"]


def killed_worker(opener: _Opener, folder: Path, items: int) -> list[str]:
    """A worker dies after it has written and before it has reported: the other does its work again."""
    export = str(make_export(folder, items))
    snapshot_writer.write_share = write_then_die

    def work(lake: Lake) -> None:
        load_export(lake, TABLE, export)

    return _compared(opener, folder, "worker", work)


def _compared(opener: _Opener, folder: Path, name: str, work: Callable[[Lake], None]) -> list[str]:
    """Differences of lakes with the same work done; files that the dead wrote are there, and in no table."""
    rows: dict[str, Any] = {}
    live: list[str] = []
    for engine in ("duckdb", "spark"):
        with opener(folder / f"{name}-{engine}", engine, TABLE, KEY) as lake, lake.session() as session:
            work(lake)
            for table in filter(None, (lake.current(TABLE), lake.changes(TABLE))):
                scan = scan_table(table)
                live += scan.paths
                whole = f"SELECT count(*), count(DISTINCT _key_hash), sum(hash(r)) FROM {scan.sql()} r"
                rows.setdefault(engine, []).append(session.rows(whole))
    marker = folder / {"executors": "apply", "worker": "load"}[name]
    orphans = set(marker.read_text().split()) if marker.exists() else set()
    problems = [] if rows["duckdb"] == rows["spark"] else [f"rows differ: {rows}"]
    if not orphans or orphans & set(live) or not all(Path(path).exists() for path in orphans):
        problems.append(f"{len(orphans)} files of the killed task, {len(orphans & set(live))} of them in the table")
    return problems


def _leftovers(folder: Path, engine: str) -> list[str]:
    return [f"{engine}: {path.name} left in scratch" for path in folder.rglob("scratch/**/*.parquet")]


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[3:] if argument != "--quick"]
    told = main(sys.argv[1], Path(sys.argv[2]), *numbers, quick="--quick" in sys.argv)
    print(json.dumps({**told, "spark": pyspark.__version__}), flush=True)
    os._exit(0)  # the session's JVM goes with its standard input
