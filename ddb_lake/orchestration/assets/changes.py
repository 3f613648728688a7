"""`changes/<table>` and `current/<table>`: landed objects into the changelog, the changelog into the current items.

One op does both: reading the objects and merging them share their work, and a run has one process to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias

import dagster as dg
from pydantic import Field

from ddb_lake.checks.check import Check
from ddb_lake.checks.registry import SCHEMA_UNCHANGED, UNIQUE_KEYS
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.verify.outcome import Outcome, judged, unknown
from ddb_lake.errors import CheckFailed, UsageError
from ddb_lake.orchestration.arrival_partitions import ArrivalPartitions
from ddb_lake.orchestration.checks import check_event, writer_results
from ddb_lake.orchestration.metadata import (
    changes_metadata,
    collisions_of,
    column_schema,
    column_types,
    current_metadata,
    entity_metadata,
    rescued_share,
    rows_by_hour,
)
from ddb_lake.orchestration.spark import launching
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.apply.apply import ApplyResult
from ddb_lake.pipeline.merge.current import CurrentResult
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import all_prefixes, prefixes_of_hours

Event: TypeAlias = dg.MaterializeResult[None] | dg.AssetCheckResult


class ApplyConfig(dg.Config):
    """What to apply: the objects of all arrival hours of the run's partitions.

    `hours`: only those of these hours (`2026-03-04T12:00Z`), which the sensor found to have something new. `everything`: all
    that has landed, also outside the folders of hours.
    """

    everything: bool = False
    hours: list[str] = Field(default=[])


class Applying:
    """One run of the op. `others`: the lake's other tables, to which records of shared objects go."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        lake: Lake,
        assets: TableAssets,
        others: Mapping[str, TableAssets],
    ) -> None:
        self._context, self._lake, self._assets, self._others = context, lake, assets, others
        self._name = assets.table.name
        self._current = assets.key("current")
        self._selected = context.selected_asset_keys
        self._checks = {check.name for check in context.selected_asset_check_keys if check.asset_key == self._current}
        compares = SCHEMA_UNCHANGED.name in self._checks or self._current in self._selected
        self._before = last_columns(context.instance, self._current) if compares else None

    def run(self, config: ApplyConfig) -> Iterator[Event]:
        """Do what is selected. The result of a failed check is yielded before its error is raised; nothing was committed."""
        result: CurrentResult | None = None
        try:
            if self._assets.keys("changes") and self._assets.key("changes") in self._selected:
                self._require_partition()
                applied = self._apply(config)
                yield from self._changes(applied)
                result = applied.current.get(self._name)
            elif not self._selected.isdisjoint(self._assets.keys("current")):
                result = launching.update(self._context, self._lake, self._assets.table)
        except CheckFailed as error:
            if UNIQUE_KEYS.name in self._checks:
                yield from writer_results(self._lake, self._assets, {UNIQUE_KEYS: judged(False, str(error))})
            raise
        if self._current in self._selected:
            metadata = current_metadata(self._lake, self._name, result)
            metadata |= self._schema_changes(metadata.get("dagster/column_schema"))
            yield dg.MaterializeResult(asset_key=self._current, metadata=metadata)
        if self._current not in self._selected and result is not None and result.changed:
            self._report(self._assets, result)
        for entity, spec in self._assets.entities.items():
            if spec.key in self._selected:
                found = entity_metadata(self._lake, self._name, entity, result)
                yield dg.MaterializeResult(asset_key=spec.key, metadata=found)
        self._report_entities(self._assets, result)
        evaluated: dict[Check, Callable[[], Outcome]] = {
            UNIQUE_KEYS: partial(unique_outcome, self._lake, self._name, result),
            SCHEMA_UNCHANGED: partial(schema_outcome, self._lake, self._name, self._before),
        }
        outcomes = {check: evaluate() for check, evaluate in evaluated.items() if check.name in self._checks}
        yield from writer_results(self._lake, self._assets, outcomes)

    # --- changes

    def _apply(self, config: ApplyConfig) -> ApplyResult:
        if config.everything:
            uris = all_prefixes(self._lake, self._assets.table)
        else:
            uris = prefixes_of_hours(self._lake, self._assets.table, self._hours(config))
        applied = launching.apply(self._context, self._lake, self._assets.table, uris)
        for doubt in applied.doubts if applied.objects else ():  # an hour's folder may be empty
            self._context.log.error(doubt)
        return applied

    def _hours(self, config: ApplyConfig) -> list[datetime]:
        """The arrival hours whose objects are read. Raises UsageError for hours that are none, or in no partition of the run."""
        of_partitions = [hour for hours in self._partition_hours().values() for hour in hours]
        if not config.hours:
            return of_partitions
        wanted = [_parsed_hour(text) for text in config.hours]
        if outside := sorted(set(wanted).difference(of_partitions)):
            raise UsageError(
                f"`hours` has {outside[0].isoformat()}, which is in no partition of the run: {self._context.partition_key_range}",
                hint="select the partition of that hour, or leave out `hours`",
            )
        return wanted

    def _partition_hours(self) -> dict[str, list[datetime]]:
        """The arrival hours of each partition of the run."""
        partitions = _partitions(self._assets)
        return {key: partitions.hours(key) for key in self._context.partition_keys}

    def _require_partition(self) -> None:
        """Raise UsageError for a run without a partition, such as one of a job by `dg launch`: Dagster could not report its result."""
        if self._context.has_partition_key or self._context.has_partition_key_range:
            return
        latest = _partitions(self._assets).definition.get_last_partition_key()
        raise UsageError(
            "the run has no partition: name the time (UTC) in which the objects landed",
            table=self._name,
            hint=f"add `--partition {latest}` to the command, or apply all that has landed with `ddb-lake sync {self._name}`",
        )

    def _changes(self, applied: ApplyResult) -> Iterator[Event]:
        """The changelog's materialization, with the rows of each partition, and what other tables got of the objects."""
        key, found = self._assets.key("changes"), applied.tables.get(self._name)
        of_partitions = self._partition_hours()
        rows = rows_by_hour(self._lake, self._name, [hour for hours in of_partitions.values() for hour in hours])
        for partition, hours in of_partitions.items():
            new = sum(found.hours.get(hour.replace(tzinfo=None).isoformat(), 0) for hour in hours) if found else 0
            figures = {"dagster/partition_row_count": sum(rows[hour] for hour in hours), "new in this partition": new}
            self._context.add_asset_metadata(figures, asset_key=key, partition_key=partition)
        yield dg.MaterializeResult(asset_key=key, metadata=changes_metadata(self._lake, self._name, applied))
        for name, result in applied.tables.items():
            if name != self._name and name in self._others and result.new:
                self._tell_other(self._others[name], applied)

    def _tell_other(self, other: TableAssets, applied: ApplyResult) -> None:
        """Records of another table stood in these objects: its assets have changed too."""
        name = other.table.name
        metadata = changes_metadata(self._lake, name, applied)
        for key in other.keys("changes"):
            for partition in arrival_partitions(other, applied, self._lake.now()):
                event = dg.AssetMaterialization(key, partition=partition, metadata=metadata)
                self._context.log_event(event)
        self._report(other, applied.current.get(name))

    def _report(self, assets: TableAssets, result: CurrentResult | None) -> None:
        """Log the materialization of a `current` that the run did not select but wrote, and its blocking check."""
        metadata = current_metadata(self._lake, assets.table.name, result)
        self._context.log_event(dg.AssetMaterialization(assets.key("current"), metadata=metadata))
        if result is not None:
            for found in writer_results(
                self._lake, assets, {UNIQUE_KEYS: unique_outcome(self._lake, assets.table.name, result)}
            ):
                self._context.log_event(check_event(found))
        if assets is not self._assets:
            self._report_entities(assets, result)

    def _report_entities(self, assets: TableAssets, result: CurrentResult | None) -> None:
        """Log the materializations of entities that the run did not select but wrote rows of."""
        for one in result.entities if result is not None else ():
            spec = assets.entities.get(one.entity)
            if spec is not None and spec.key not in self._selected and (one.added or one.deleted or one.rewritten):
                metadata = entity_metadata(self._lake, assets.table.name, one.entity, result)
                self._context.log_event(dg.AssetMaterialization(spec.key, metadata=metadata))

    # --- the schema

    def _schema_changes(self, now: dg.TableSchema | None) -> dict[str, str]:
        """What became of the columns since the last materialization, if anything."""
        drift = _drift(self._before, column_types(now)) if self._before is not None and now is not None else []
        return {"schema changes": "; ".join(drift)} if drift else {}


def unique_outcome(lake: Lake, name: str, result: CurrentResult | None) -> Outcome:
    """The outcome of `UNIQUE_KEYS` after an update of `current`, or several; None if nothing was updated."""
    if result is None or not result.changed:
        if lake.current(name) is None:
            return unknown("the lake has no table yet")
        return judged(True, "No record waited in the changelog: no key was decided, and no row was written.")
    text = (
        "Counted before the commit:"
        f" {count_text(result.winners, 'winning record decides', 'winning records decide')}"
        f" {count_text(result.changed, 'distinct key')}. The written"
        f" files have {count_text(result.upserted, 'row')}, and"
        f" {count_text(result.removed, 'key has', 'keys have')} no item. The table has {count_text(result.rows, 'row')} now."
    )
    passed = result.winners == result.changed == result.upserted + result.removed
    figures = {"winning records": result.winners, "changed keys": result.changed, "rows written": result.upserted}
    return judged(passed, text, figures | {"keys without an item": result.removed, "rows": result.rows})


def schema_outcome(lake: Lake, name: str, before: Mapping[str, str] | None) -> Outcome:
    """The outcome of `SCHEMA_UNCHANGED`. `before`: the columns of the last materialization, from `last_columns`."""
    table = lake.current(name)
    if table is None:
        return unknown("the lake has no table yet")
    share, now = rescued_share(table), column_types(column_schema(table))
    collisions = "".join(f" {collision}." for collision in collisions_of(table))
    figures = {"columns": len(now), "rescued share": share}
    if before is None:
        columns = count_text(len(now), "column")
        reason = f"there is no earlier materialization to compare the {columns} with"
        return unknown(f"{reason}.{collisions}" if collisions else reason, figures)
    drift = _drift(before, now)
    compared = f"since the last materialization: {'; '.join(drift) or 'no difference'}"
    return judged(not drift, f"{count_text(len(now), 'column')}; {compared}.{collisions}", figures)


def last_columns(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, str] | None:
    """The types of the columns by name, as the last materialization of an asset has them; None if none has."""
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event is not None else None
    columns = materialization.metadata.get("dagster/column_schema") if materialization is not None else None
    return column_types(columns.schema) if isinstance(columns, dg.TableSchemaMetadataValue) else None


def arrival_partitions(assets: TableAssets, applied: ApplyResult, now: datetime) -> list[str]:
    """The partitions of `changes/<table>` into which new records of the table came."""
    hours = [datetime.fromisoformat(hour).replace(tzinfo=UTC) for hour in applied.tables[assets.table.name].hours]
    partitions = _partitions(assets)
    return partitions.keys(hour for hour in hours if partitions.has(hour, now))


def _partitions(assets: TableAssets) -> ArrivalPartitions:
    assert assets.partitions is not None, "a table with the asset `changes` has partitions"
    return assets.partitions


def _parsed_hour(text: str) -> datetime:
    """An arrival hour of the run's configuration. Raises UsageError if it is none, or has no time zone."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        given = datetime.max
    hour = given.replace(minute=0, second=0, microsecond=0)
    if given != hour or given.utcoffset() != timedelta(0):
        raise UsageError(f"`hours` has {text!r}: write full hours in UTC, such as 2026-03-04T12:00Z")
    return hour


def _drift(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The differences between the columns of two materializations, in words."""
    added = [name for name in now if name not in before]
    gone = [name for name in before if name not in now]
    retyped = [f"{name} from {before[name]} to {now[name]}" for name in now if before.get(name, now[name]) != now[name]]
    differences = [("added", added), ("gone", gone), ("retyped", retyped)]
    return [f"{what}: {', '.join(names)}" for what, names in differences if names]
