"""A lake whose exports and change objects lie in folders, with its definitions and an instance to run them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.in_process_daemon import InProcessDaemon, Run, RunOptions, run_job
from ddb_lake.orchestration.sensor import arrivals_sensor
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.landed_files import EXPORT_US, Image, change, order, write_changes, write_export

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
HOUR_US = 3_600_000_000


@dataclass
class FolderLake:
    """The lake. Extra tables, settings of `orders` and the partitions of its changes may be given."""

    folder: Path
    instance: dg.DagsterInstance
    orders: Mapping[str, Any] = field(default_factory=dict)
    others: Sequence[Mapping[str, Any]] = ()
    partitions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "landing").mkdir()
        orders = {
            "name": "orders",
            "key": ["customer", "order_id"],
            "export": {"bucket": str(self.folder / "exports")},
            "changes": {"uri": str(self.folder / "landing"), "partitions": self.partitions},
            **self.orders,
        }
        tables: Any = [orders, *self.others]
        self.component = DynamoDBLakeComponent(warehouse=str(self.folder / "lake"), tables=tables)
        self.defs = dg.build_defs_for_component(self.component)
        sensor = arrivals_sensor(self.defs)
        self.name = sensor.name.removesuffix("_arrivals")
        (self.sync_job, *_) = (job.name for job in self.defs.jobs or () if job.name.startswith(f"{self.name}_sync"))
        self.ticker = InProcessDaemon(self.defs, self.instance, sensor.name)

    def land(self, name: str, *records: Image | str) -> Path:
        """Write a change object; `name` begins with its hour, as in `2025/02/03/04/x`."""
        return write_changes(self.folder / "landing" / name, *records)

    def export(self, *items: Image) -> Path:
        """Write a finished full export."""
        (self.folder / "exports").mkdir(exist_ok=True)
        return write_export(self.folder / "exports", "orders", items)

    def run(self, *assets: str, hours: tuple[str, str] | None = None, config: Mapping[str, Any] | None = None) -> Run:
        """Materialize some assets, as from the UI. `hours`: first and last partition key, of days by default."""
        keys = [dg.AssetKey(asset.split("/")) for asset in assets]
        tags = dict(zip(RANGE, hours, strict=True)) if hours else {}
        return run_job(
            self.defs,
            self.instance,
            self.sync_job,
            "test",
            RunOptions(config, keys, tags),
        )

    def settle(self) -> list[Run]:
        """Tick until a tick requests nothing. Returns the runs."""
        runs: list[Run] = []
        for _ in range(10):
            tick = self.ticker.tick()
            if not tick.runs:
                return runs
            runs += tick.runs
        raise AssertionError("the sensor never stops asking")

    def opened(self) -> Any:
        """The open lake, to be used in a `with`."""
        return open_lake(self.component.settings)

    def items(self) -> list[bytes]:
        """The lines of the dump."""
        from ddb_lake.pipeline.read.dump import dump_items

        with self.opened() as lake:
            assert isinstance(lake, Lake)
            return sorted(dump_items(lake, "orders"))


def inserted(number: int, customer: str = "ann", **attributes: Any) -> Image:
    """A change record that inserts an order, an hour after the export."""
    return change(number, EXPORT_US + HOUR_US + number, order(customer, number, **attributes))


def check(run: Run, asset: str, name: str) -> dg.AssetCheckEvaluation:
    """The one evaluation of a check in a run."""
    (found,) = (c for c in run.checks if (c.asset_key.to_user_string(), c.check_name) == (asset, name))
    return found
