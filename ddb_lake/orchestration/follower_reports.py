"""What a follower did, as events of Dagster: materializations and checks of `changes/<table>` and `current/<table>`.

A follower commits every few seconds, outside Dagster's runs. Its figures are added up and reported once a minute at most, so
that Dagster's event log stays small. https://docs.dagster.io/guides/build/assets/external-assets
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from ddb_lake.checks.check import Check
from ddb_lake.checks.registry import SCHEMA_UNCHANGED, UNIQUE_KEYS
from ddb_lake.core.verify.outcome import Outcome, judged
from ddb_lake.errors import CheckFailed, UsageError
from ddb_lake.orchestration.assets.changes import arrival_partitions, last_columns, schema_outcome, unique_outcome
from ddb_lake.orchestration.checks import check_event, writer_results
from ddb_lake.orchestration.metadata import changes_metadata, current_metadata
from ddb_lake.orchestration.specs import TableAssets, base_spec, table_assets
from ddb_lake.pipeline.apply.apply import ApplyResult
from ddb_lake.pipeline.open_lake import Lake

REPORT_EVERY_S = 60.0


@dataclass(slots=True)
class FollowerReports:
    """Adds up what was applied, and reports it to an instance of Dagster.

    The keys of the assets are those of the lake's settings; a project that changes keys with `translation` has other ones.

    Args:
        lake: an open lake.
        instance: the instance of Dagster.
        clock: a clock that does not go back, in seconds.
    """

    lake: Lake
    instance: dg.DagsterInstance
    clock: Callable[[], float] = time.monotonic
    _applied: dict[str, ApplyResult] = field(default_factory=dict)
    _failed: dict[str, CheckFailed] = field(default_factory=dict)
    _reported_at: dict[str, float] = field(default_factory=dict)

    def add(self, applied: ApplyResult) -> None:
        """Add a result. Records of other tables of the lake count for these."""
        for name in {**applied.tables, **applied.current}:
            self._applied[name] = self._applied[name] + applied if name in self._applied else applied

    def add_failure(self, table: str, error: Exception) -> None:
        """Add a failure: a check that does not hold is reported, and nothing was committed."""
        if isinstance(error, CheckFailed):
            self._failed[table] = error

    def report(self, at_once: bool = False) -> None:
        """Report each table with something new that was not reported within the last minute. `at_once`: all of them.

        Raises whatever the instance raises; what was not reported is reported by the next call.
        """
        now = self.clock()
        for name in sorted({*self._applied, *self._failed}):
            if at_once or now - self._reported_at.get(name, float("-inf")) >= REPORT_EVERY_S:
                for event in self._events(name):
                    self.instance.report_runless_asset_event(event)
                self._applied.pop(name, None)
                self._failed.pop(name, None)
                self._reported_at[name] = now

    def _events(self, name: str) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        assets = _assets(self.lake, name)
        applied, failed = self._applied.get(name), self._failed.get(name)
        outcomes: dict[Check, Outcome] = {}
        if applied is not None:
            yield from self._changes(assets, applied)
            result, key = applied.current.get(name), assets.key("current")
            before = last_columns(self.instance, key)
            if result is not None and result.changed:
                yield dg.AssetMaterialization(key, metadata=current_metadata(self.lake, name, result))
            outcomes[UNIQUE_KEYS] = unique_outcome(self.lake, name, result)
            outcomes[SCHEMA_UNCHANGED] = schema_outcome(self.lake, name, before)
        if failed is not None:
            outcomes[UNIQUE_KEYS] = judged(False, str(failed))
        for found in writer_results(self.lake, assets, outcomes):
            yield check_event(found)

    def _changes(self, assets: TableAssets, applied: ApplyResult) -> Iterator[dg.AssetMaterialization]:
        name = assets.table.name
        if name in applied.tables and assets.keys("changes"):
            metadata = changes_metadata(self.lake, name, applied)
            for partition in arrival_partitions(assets, applied, self.lake.now()):
                yield dg.AssetMaterialization(assets.key("changes"), partition=partition, metadata=metadata)


def _assets(lake: Lake, name: str) -> TableAssets:
    settings = lake.settings
    return table_assets(lake.table(name), lambda asset: base_spec(asset, settings), settings.key_prefix)


@contextmanager
def follower_reports(lake: Lake) -> Iterator[FollowerReports]:
    """Reports to the instance of `DAGSTER_HOME`. Raises UsageError if the variable is not set."""
    home = os.environ.get("DAGSTER_HOME", "")
    if not Path(home).is_absolute() or not Path(home).is_dir():
        raise UsageError(
            "Dagster's instance is not known: the environment variable DAGSTER_HOME has no absolute path of a folder",
            hint="set it to the folder that Dagster's daemon and web server use",
        )
    with dg.DagsterInstance.get() as instance:
        yield FollowerReports(lake, instance)
