"""A small scenario in folders, and its stages by name, for faults that are not S3's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.simulator import Scenario, write
from ddb_lake_tests.support.failing_steps import wrong
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.lake_contents import small_scenario


@dataclass
class Ground:
    """A scenario in `folder`, of a few keys."""

    folder: Path
    seed: int = 6

    @cached_property
    def scenario(self) -> Scenario:
        """What happened, and what landed of it."""
        found = small_scenario(seed=self.seed, keys=6, writes=24, objects=4)
        write(found, self.folder)
        return found

    @property
    def landing(self) -> Path:
        """The folder of change objects."""
        return self.folder / "landing"

    @contextmanager
    def lake(self, **settings: Any) -> Iterator[Lake]:
        """The open lake; the scenario is written first."""
        with lake(self.folder / "lake", self.scenario.table, self.scenario.key_names, **settings) as opened:
            yield opened

    def stages(self, opened: Lake) -> dict[str, Callable[[], Any]]:
        """Every stage, in an order that does something in each."""
        name = self.scenario.table
        exports = {e.kind: str(self.folder / "exports" / str(n)) for n, e in enumerate(self.scenario.exports)}
        return {
            "load": lambda: load_export(opened, name, exports["full"]),
            "apply": lambda: apply_objects(opened, name, [str(self.landing)]),
            "increment": lambda: load_export(opened, name, exports["incremental"]),
            "compact": lambda: compact_table(opened, name, force=True),
        }

    def wrong(self, opened: Lake) -> list[str]:
        """How the lake differs from the truth."""
        return wrong(opened, self.scenario)
