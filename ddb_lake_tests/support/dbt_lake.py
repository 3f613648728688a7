"""A lake of orders and web analytics, and dbt's models of it: built when half has landed, and twice after that.

`python -m ddb_lake_tests.support.dbt_lake FOLDER` makes it. Builds of one process import dbt once, which takes seconds.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from ddb_lake.config import parse_settings
from ddb_lake.dbt.project import install_package
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.export_files import HOUR_US, full, increment, land
from ddb_lake_tests.support.order_history import EXPORT_US, Source
from ddb_lake_tests.support.web_analytics_items import activities

ROOT = Path(__file__).parents[2]

PROJECT = ROOT / "dbt_project"

DATABASE = "lake_marts.duckdb"
"""The name of the models' DuckDB file: dbt names its database after it."""

DAY_US = 24 * HOUR_US

WINDOW_US = EXPORT_US + 13 * HOUR_US
"""The last day's beginning; it ends an hour after the last write."""

TABLES = {"tables": ["orders", "web_analytics"]}


@dataclass(frozen=True)
class Built:
    """The lake, its source, and the models' database."""

    folder: Path
    source: Source
    activities: list[dict[str, Any]]

    def rows(self, sql: str, database: Path | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query over the models that are tables, optionally over those in another DuckDB file."""
        with duckdb.connect(str(database or self.folder / DATABASE), read_only=True) as con:
            found: list[tuple[Any, ...]] = con.execute(sql).fetchall()
        return found


def lake_settings(folder: Path) -> dict[str, Any]:
    """The configuration of the lake in a folder."""
    return {
        "warehouse": str(folder / "lake"),
        "tables": [
            {"name": "orders", "key": ["customer", "order_id"]},
            {"name": "web_analytics", "key": ["page_id", "activity_dt"]},
        ],
    }


def environment(folder: Path) -> dict[str, str]:
    """What points dbt at the lake in a folder."""
    return {
        **os.environ,
        "DDB_LAKE_CONFIG": str(folder / "lake.json"),
        "DDB_LAKE_DBT_DATABASE": str(folder / DATABASE),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def dbt(folder: Path, *arguments: str, project: Path = PROJECT, **variables: str) -> str:
    """Run dbt on a project, by default that of this repository; what it printed. Fails if dbt does.

    `variables` replace those of the environment that leads to the lake in the folder.
    """
    if project == PROJECT:
        install_package(PROJECT)
    command = [str(Path(sys.executable).with_name("dbt")), "--no-use-colors", *arguments, *_options(project)]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder) | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_all(folder: Path) -> None:
    """Make the lake, and the models by three builds between which records land, late ones among them.

    After the second an incremental export is loaded, which has the changes of the last day that the stream has too.
    """
    install_package(PROJECT)
    os.environ |= environment(folder)
    os.chdir(folder)  # dbt writes to the working folder
    found, second = prepare(folder)
    _build("run", "--select", "+dim_orders_history", "fct_orders_daily_changes")
    window = increment(*found.source.window(WINDOW_US), at_us=WINDOW_US + DAY_US, window=WINDOW_US)
    with opened(folder) as lake:
        apply_objects(lake, "orders", second[:-1])
        load_export(lake, "orders", str(window.write(folder / "windows")))
    _build("run", "--select", "dim_orders_history", "fct_orders_daily_changes")
    with opened(folder) as lake:
        apply_objects(lake, "orders", second[-1:])
    _build("build")


def made(folder: Path) -> Built:
    """What `build_all` has made in a folder."""
    source = Source()
    source.live()
    return Built(folder, source, activities())


def _build(*arguments: str) -> None:
    """Run dbt on this repository's project, in this process."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    done = dbtRunner().invoke(["--no-use-colors", *arguments, *_options(PROJECT)])
    DuckDBConnectionManager.close_all_connections()
    assert done.success, done.exception or done.result


def _options(project: Path) -> list[str]:
    return ["--project-dir", str(project), "--profiles-dir", str(project), "--vars", json.dumps(TABLES)]


def prepare(folder: Path) -> tuple[Built, list[str]]:
    """Make the lake with some of what lands, and give the objects that are to come."""
    (folder / "lake.json").write_text(json.dumps(lake_settings(folder)))
    found = made(folder)
    with opened(folder) as lake:
        first, second = _landed(folder, found)
        load_export(lake, "orders", str(_export(folder, found.source)))
        web = full(found.activities, at_us=EXPORT_US, table="web_analytics").write(folder / "web")
        load_export(lake, "web_analytics", str(web))
        apply_objects(lake, "orders", first)
    return found, second


def opened(folder: Path) -> AbstractContextManager[Lake]:
    """The lake in a folder, open for a `with` block."""
    return open_lake(parse_settings(lake_settings(folder), "test"))


def _export(folder: Path, source: Source) -> Path:
    return full(list(source.exported.values()), at_us=EXPORT_US).write(folder / "exports")


def _landed(folder: Path, found: Built) -> tuple[list[str], list[str]]:
    """Objects with all records, some of them twice, dealt into two lots without regard to time."""
    records = [write.record() for write in found.source.landed()]
    deal = random.Random(3)
    lots: tuple[list[Any], list[Any]] = ([], [])
    for place, record in enumerate(records):
        late = deal.random() < 0.15 or place > len(records) * 0.7
        lots[late].append(record)
        if deal.random() < 0.1:
            lots[1].append(record)
    for lot in lots:
        deal.shuffle(lot)
    return tuple(  # type: ignore[return-value]
        [land(folder / "landing" / f"{name}-{part}", *lot[part::3]) for part in range(3)]
        for name, lot in zip(("first", "second"), lots, strict=True)
    )


def moment(time_us: int | None) -> datetime | None:
    return (
        None
        if time_us is None
        else datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(microsecond=time_us % 1_000_000, tzinfo=None)
    )


if __name__ == "__main__":
    build_all(Path(sys.argv[1]))
