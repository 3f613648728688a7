"""A lake of orders and web analytics, and dbt's models of it."""

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
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.export_files import HOUR_US, full, land
from ddb_lake_tests.support.order_history import EXPORT_US, Source
from ddb_lake_tests.support.web_analytics_items import activities

ROOT = Path(__file__).parents[2]

PROJECT = ROOT / "dbt_project"

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

    @property
    def database(self) -> Path:
        """The models' DuckDB file."""
        return self.folder / "lake_marts.duckdb"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query over the models that are tables."""
        with duckdb.connect(str(self.database), read_only=True) as con:
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
        "DDB_LAKE_DBT_DATABASE": str(folder / "lake_marts.duckdb"),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def dbt(folder: Path, *arguments: str, project: Path = PROJECT) -> str:
    """Run dbt on a project, by default that of this repository; what it printed. Fails if dbt does."""
    command = [str(Path(sys.executable).with_name("dbt")), "--no-use-colors", *arguments]
    command += ["--project-dir", str(project), "--profiles-dir", str(project), "--vars", json.dumps(TABLES)]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def prepare(folder: Path) -> tuple[Built, list[str]]:
    """Make the lake with some of what lands, and give the objects that are to come."""
    (folder / "lake.json").write_text(json.dumps(lake_settings(folder)))
    source = Source()
    source.live()
    found = Built(folder, source, activities())
    with opened(folder) as lake:
        first, second = _landed(folder, found)
        load_export(lake, "orders", str(_export(folder, source)))
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
