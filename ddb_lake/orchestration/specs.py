"""The specs of a table's assets: keys, dependencies, partitions, names. Pure: nothing is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import blake2b
from typing import Any

import dagster as dg

from ddb_lake.config import LakeSettings, TableSettings, seconds
from ddb_lake.config.lake import Grouping
from ddb_lake.core.layout.table_names import CHANGES, entity_table
from ddb_lake.core.operations.display_text import escape_markdown
from ddb_lake.orchestration.arrival_partitions import ArrivalPartitions
from ddb_lake.orchestration.following import condition_of
from ddb_lake.pipeline.plan.stages import Stage, stages_of

_UPSTREAM: Mapping[Stage, tuple[Stage, ...]] = {
    "dynamodb": (),
    "export": ("dynamodb",),
    "increments": ("dynamodb",),
    "snapshot": ("export", "increments"),
    "streams": ("dynamodb",),
    "changes": ("dynamodb", "streams"),
    "current": ("snapshot", "changes"),
    "daily": ("current",),
    "aurora": ("current",),
}
_KINDS: Mapping[Stage, set[str]] = {
    "dynamodb": {"dynamodb"},
    "export": {"s3"},
    "increments": {"s3"},
    "streams": {"s3"},
    "snapshot": {"iceberg", "duckdb"},
    "changes": {"iceberg", "duckdb"},
    "current": {"iceberg", "duckdb"},
    "daily": {"parquet", "duckdb"},
    "aurora": {"mysql"},
}
_DESCRIPTIONS: Mapping[Stage, str] = {
    "dynamodb": "Source: the Amazon DynamoDB table `{source}`. An observation shows its items and streams, and the newest change in"
    " the lake; it reads no item.",
    "export": "Exports: `{source}` at points in time, in S3 as DynamoDB wrote it. The table's read capacity is not"
    " used. A run starts one and waits for it, or goes on waiting for one that is under way.",
    "increments": "Incremental exports: what changed in `{source}`, in windows that follow each other without a gap. A run"
    " starts those that are due and does not wait; they are loaded like full ones once DynamoDB has written them.",
    "snapshot": "Snapshots: the items of each loaded export, exactly, as a branch of the Iceberg table `{table}`. The"
    " newest is the base on which changes are applied.",
    "streams": "Stream: what DynamoDB Streams has of `{source}`, landed as it is read. A run goes on for some minutes;"
    " what was read is landed and remembered together, so that nothing is lost whenever a run ends.",
    "changes": "Changelog: every distinct change record of `{source}`, once: the Iceberg table `{table}_changes`. Partitions are"
    " the days or hours (UTC) in which objects landed. One may be run again at any time: nothing is applied twice.",
    "current": "Items: the latest image of each existing item of `{source}`, in typed columns; Iceberg table `{table}`."
    " It is the same in whatever order records arrive, and however often.",
    "daily": "Days: the items of `{source}` as of the end of each day (UTC), exactly, one Parquet file a day. Making a day"
    " again replaces it, with what came late.",
    "aurora": "Replica: the current items of `{source}` in a MySQL-compatible database, with deletes and new columns. Each"
    " run is one transaction there, which also keeps the state that was reached.",
}


CANARY_S = 2 * 3600
"""A canary is written at most this long after the one before: the hourly check may be missed once."""

LEAST_FRESHNESS_S = 60
"""Dagster evaluates freshness once a minute."""

_ENTITY = (
    "Entity: the items of `{source}` whose keys belong to `{entity}`, with columns of their own; Iceberg table"
    " `{table}_{entity}`. It is derived from the asset `current` of the table, in the same step."
)


def asset_key(key_prefix: str, stage: Stage, table: str, part: str = "") -> dg.AssetKey:
    """The key of a stage of a table. `key_prefix`: of the lake, may be empty. `part`: of an asset for a part of the table."""
    return dg.AssetKey([name for name in (key_prefix, stage, table, part) if name])


@dataclass(frozen=True, slots=True)
class LakeAsset:
    """One stage of one table, or one of its entities.

    `key_prefix`: distinguishes the lakes of one code location; may be empty. `entity`: the entity whose table it is, of the stage
    `current`; empty for the whole table.
    """

    stage: Stage
    table: TableSettings
    key_prefix: str = ""
    entity: str = ""

    @property
    def key(self) -> dg.AssetKey:
        """The asset's key before any translation."""
        return asset_key(self.key_prefix, self.stage, self.table.name, self.entity)


@dataclass(frozen=True, slots=True)
class TableAssets:
    """A table and the specs of its assets, by stage, as they are in Dagster.

    `key_prefix`: as in `LakeAsset`. `entities`: the specs of its entities, by name.
    """

    table: TableSettings
    specs: Mapping[Stage, dg.AssetSpec]
    key_prefix: str = ""
    entities: Mapping[str, dg.AssetSpec] = field(default_factory=dict)

    @property
    def partitions(self) -> ArrivalPartitions | None:
        """The partitions of `changes/<table>`; None if no changes are configured."""
        return None if self.table.changes is None else ArrivalPartitions(self.table.changes.partitions)

    def pool(self, work: str | None = None) -> str:
        """The pool of the table's writers, or of another kind of work on it, which does not keep the writers waiting."""
        return "_".join(filter(None, ["ddb_lake", self.key_prefix, work, self.table.name]))

    def key(self, stage: Stage) -> dg.AssetKey:
        """The key of the asset of a stage. Raises KeyError if the table has none."""
        return self.specs[stage].key

    def keys(self, *stages: Stage) -> list[dg.AssetKey]:
        """The keys of those of `stages` that the table has. The entities are with `current`: one step writes all of them."""
        found: list[dg.AssetKey] = []
        for stage in stages:
            if stage in self.specs:
                found.append(self.specs[stage].key)
            if stage == "current":
                found += [spec.key for spec in self.entities.values()]
        return found


def base_spec(asset: LakeAsset, settings: LakeSettings) -> dg.AssetSpec:
    """The spec of an asset before any translation. `settings`: of its lake."""
    table, stage = asset.table, asset.stage
    stages = set(stages_of(table))
    upstream = [replace(asset, stage=one).key for one in _UPSTREAM[stage] if one in stages]
    if asset.entity:
        upstream = [replace(asset, entity="").key]
    elif stage == "current" and not upstream:
        upstream = [replace(asset, stage="dynamodb").key]
    return dg.AssetSpec(
        asset.key,
        deps=upstream,
        description=(_ENTITY if asset.entity else _DESCRIPTIONS[stage]).format(
            source=escape_markdown(table.source_name), table=escape_markdown(table.name), entity=asset.entity
        ),
        group_name=_group(asset, settings.group_by),
        kinds={
            stage,
            *_KINDS[stage],
        },  # the graph shows them below the asset's name, which is the table's in each stage
        owners=list(table.owners),
        tags={
            **table.tags,
            "ddb_lake/table": tag_value(table.name),
            "ddb_lake/stage": stage,
            **({"ddb_lake/entity": asset.entity} if asset.entity else {}),
        },
        metadata=dict(_metadata(asset, settings.catalog.namespace)),
        partitions_def=_partitions(asset),
        skippable=stage in ("changes", "current"),
        automation_condition=condition_of(stage, table, stages),
        freshness_policy=_freshness(table) if stage == "current" and not asset.entity else None,
    )


def _group(asset: LakeAsset, group_by: Grouping) -> str:
    named = python_name(asset.table.name) if group_by == "table" else asset.stage
    return f"{python_name(asset.key_prefix)}_{named}" if asset.key_prefix else named


def _partitions(asset: LakeAsset) -> dg.TimeWindowPartitionsDefinition | None:
    changes, days = asset.table.changes, asset.table.daily_states
    if asset.stage == "changes" and changes is not None:
        return ArrivalPartitions(changes.partitions).definition
    return days_from(days.start) if asset.stage == "daily" and days is not None else None


def days_from(start: date) -> dg.DailyPartitionsDefinition:
    """The days (UTC) that have ended, from `start` on."""
    return dg.DailyPartitionsDefinition(start_date=f"{start:%Y-%m-%d}", timezone="UTC")


def _freshness(table: TableSettings) -> dg.FreshnessPolicy | None:
    """The longest time between two materializations of `current`: `checks.freshness`, or what `checks.max_lag` allows.

    Dagster's freshness counts materializations, and an idle table has none. So `max_lag` decides only where something is certain to
    arrive regularly: windows of incremental exports, or the canary, which an hourly check writes.

    https://docs.dagster.io/guides/labs/freshness
    """
    checks, changes = table.checks, table.changes
    windows = changes.incremental_exports if changes is not None else None
    if checks.freshness is not None:
        limit_s = seconds(checks.freshness)
    elif windows is not None:
        limit_s = seconds(windows.every) + seconds(checks.max_lag)
    elif checks.canary is not None:
        limit_s = CANARY_S + seconds(checks.max_lag)
    else:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(seconds=max(limit_s, LEAST_FRESHNESS_S)))


def _metadata(asset: LakeAsset, namespace: str) -> Iterator[tuple[str, Any]]:
    table, stage = asset.table, asset.stage
    if stage in ("snapshot", "current"):
        name = entity_table(table.name, asset.entity) if asset.entity else table.name
        yield "dagster/table_name", f"{namespace}.{name}"
    elif stage == "changes":
        yield "dagster/table_name", f"{namespace}.{table.name}{CHANGES}"
        if table.changes is not None and table.changes.uri is not None:
            yield "landing", table.changes.uri
    elif stage == "dynamodb":
        yield "dagster/table_name", table.source_name
        if table.source.missing_since is not None:
            yield "not found since", dg.MetadataValue.timestamp(table.source.missing_since)
    if stage == "aurora" and table.aurora is not None:
        yield "dagster/table_name", f"{table.aurora.database}.{table.aurora.table or table.name}"
        yield "host", table.aurora.host
    if stage == "export" and table.export is not None:
        yield "bucket", table.export.bucket
    if stage == "dynamodb" and table.source.region:
        yield "region", table.source.region


def table_assets(
    table: TableSettings, get_asset_spec: Callable[[LakeAsset], dg.AssetSpec], key_prefix: str = ""
) -> TableAssets:
    """The specs of a table's assets, with dependencies on the keys that `get_asset_spec` gives."""
    found: dict[Stage, dg.AssetSpec] = {}
    renamed: dict[dg.AssetKey, dg.AssetKey] = {}
    for stage in stages_of(table):
        asset = LakeAsset(stage, table, key_prefix)
        spec = get_asset_spec(asset)
        renamed[asset.key] = spec.key
        deps = [renamed.get(dep.asset_key, dep.asset_key) for dep in spec.deps]
        found[stage] = spec.replace_attributes(deps=deps)
    entities = {}
    for entity in table.entity_names:
        spec = get_asset_spec(LakeAsset("current", table, key_prefix, entity))
        deps = [renamed.get(dep.asset_key, dep.asset_key) for dep in spec.deps]
        entities[entity] = spec.replace_attributes(deps=deps)
    return TableAssets(table, found, key_prefix, entities)


def python_name(text: str) -> str:
    """A name that Dagster takes for ops, jobs and groups; different for different texts."""
    if re.fullmatch(r"[A-Za-z0-9_]+", text):
        return text
    mark = blake2b(text.encode(), digest_size=3).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', text)}_{mark}"


def tag_value(text: str) -> str:
    """A name as the value of an asset's tag: at most 63 characters of letters, digits, '.', '_' and '-'."""
    return text if len(text) <= 63 else f"{text[:56]}-{blake2b(text.encode(), digest_size=3).hexdigest()}"
