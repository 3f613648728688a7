"""`DynamoDBLakeComponent`: a lake's settings as Dagster definitions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, Field, model_validator
from typing_extensions import TypeAliasType

from ddb_lake.config import CatalogSettings, DbtSettings, LakeSettings, SnapshotSettings, SparkSettings, TableSettings
from ddb_lake.config.inventory import with_inventory
from ddb_lake.config.lake import Automations, Grouping, HashKeySettings
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.assets.changes import ApplyConfig, Applying
from ddb_lake.orchestration.assets.daily_snapshots import keep_days
from ddb_lake.orchestration.assets.export import export_table
from ddb_lake.orchestration.assets.incremental_exports import IncrementsConfig, start_increments
from ddb_lake.orchestration.assets.mysql import ReplicateConfig, replicate_table
from ddb_lake.orchestration.assets.snapshot import LoadConfig, load_snapshot
from ddb_lake.orchestration.assets.streams import StreamsConfig, land_streams
from ddb_lake.orchestration.dbt import dbt_definitions
from ddb_lake.orchestration.definitions import lake_definitions
from ddb_lake.orchestration.following import with_following_sensor
from ddb_lake.orchestration.run_requests import LAKE_TAG
from ddb_lake.orchestration.scaffolder import LakeScaffolder
from ddb_lake.orchestration.spark import launching
from ddb_lake.orchestration.specs import LakeAsset, TableAssets, base_spec, python_name, table_assets
from ddb_lake.orchestration.yaml_attributes import (
    automations_resolver,
    settings_resolver,
    text_resolver,
    yaml_component,
    yaml_model,
)
from ddb_lake.pipeline.open_lake import Lake

_LOG = logging.getLogger(__name__)

# Aliases, because Dagster would look into the settings for templates of its own; `attributes` does that.
_Catalog = TypeAliasType("_Catalog", CatalogSettings)
_Dbt = TypeAliasType("_Dbt", DbtSettings)
_HashKey = TypeAliasType("_HashKey", HashKeySettings | None)
_Snapshots = TypeAliasType("_Snapshots", SnapshotSettings)
_Spark = TypeAliasType("_Spark", SparkSettings)
_Tables = TypeAliasType("_Tables", tuple[TableSettings, ...])

_TRANSLATION: TranslationFnResolver[LakeAsset] = TranslationFnResolver(
    lambda asset: {"asset": asset, "stage": asset.stage, "table": asset.table.name}
)


@dg.scaffold_with(LakeScaffolder)
class DynamoDBLakeComponent(dg.Component, dg.Model, dg.Resolvable):
    """Exact, fresh, queryable copies of Amazon DynamoDB tables in an Apache Iceberg lake.

    For each table: its exports, their snapshots, the changelog and the current items, with checks on them; for the
    lake one sensor that plans what is due, schedules for exports, checks and compaction. Needs no resources.

    To change the spec of an asset, use `translation` or override `get_asset_spec`; to do more (or less)
    in a run, override `execute`.
    """

    warehouse: Annotated[str, text_resolver(), Field(description="Where the lake is: a folder, file:// or s3://.")]
    catalog: Annotated[_Catalog, settings_resolver(CatalogSettings)] = CatalogSettings()
    snapshots: Annotated[_Snapshots, settings_resolver(SnapshotSettings)] = SnapshotSettings()
    landing: Annotated[
        str | None,
        text_resolver(),
        Field(description="Location of the files that belong to no Iceberg table; default: the warehouse."),
    ] = None
    dbt: Annotated[_Dbt, settings_resolver(DbtSettings)] = DbtSettings()
    key_prefix: Annotated[
        str,
        text_resolver(),
        Field(
            description="First part of all asset keys, and of the names of jobs, sensor and pools: for several lakes."
        ),
    ] = ""
    group_by: Annotated[
        Grouping, text_resolver(), Field(description="Groups of the assets: one for each `table`, or for each `stage`.")
    ] = "table"
    memory: Annotated[str, text_resolver(), Field(description="What DuckDB may take of memory.")] = "1GB"
    spark: Annotated[_Spark, settings_resolver(SparkSettings)] = SparkSettings()
    bucket_owner: Annotated[
        str | None,
        text_resolver(),
        Field(description="The AWS account that owns the buckets of the warehouse, of landing and of exports."),
    ] = None
    run_automatically: Annotated[
        Automations,
        automations_resolver(),
        Field(
            description="Whether Dagster starts the sensor and the schedules by itself: true, or a list of their kinds."
        ),
    ] = False
    one_process_per_run: Annotated[
        bool,
        Field(
            description="Runs of the code location use one process, and not one more for each step: sets its `executor`."
        ),
    ] = False
    sensor_interval: Annotated[
        str | None,
        text_resolver(),
        Field(description="How often the sensor looks for landed objects and finished exports, `5s` to `30s`."),
    ] = None
    hash_key: Annotated[_HashKey, settings_resolver(HashKeySettings)] = None
    tables: Annotated[_Tables, settings_resolver(TableSettings, many=True)] = ()
    translation: Annotated[TranslationFn[LakeAsset] | None, _TRANSLATION] = None

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The model of the YAML attributes."""
        tables: Any = yaml_model(TableSettings)
        settings: Any = {"catalog": yaml_model(CatalogSettings), "dbt": yaml_model(DbtSettings)}
        settings |= {"spark": yaml_model(SparkSettings), "snapshots": yaml_model(SnapshotSettings)}
        settings["hash_key"] = yaml_model(HashKeySettings) | None
        return yaml_component(super().model(), **settings, tables=tuple[tables, ...])

    @model_validator(mode="after")
    def _is_a_lake(self) -> DynamoDBLakeComponent:
        assert self.settings  # raises what the settings find wrong with the whole
        return self

    @cached_property
    def settings(self) -> LakeSettings:
        """The lake's settings, as the command line reads them; without the inventory, which `build_defs` reads."""
        return LakeSettings.model_validate({name: getattr(self, name) for name in LakeSettings.model_fields})

    def get_asset_spec(self, asset: LakeAsset) -> dg.AssetSpec:
        """Return the spec of one asset. Override it to change keys, groups, tags or descriptions.

        Args:
            asset: a stage of a table.

        Returns:
            The spec. If its key differs from `asset.key`, the dependencies of the lake's other assets follow.

        Example:
            def get_asset_spec(self, asset):
                return super().get_asset_spec(asset).merge_attributes(owners=["team:data"])
        """
        spec = base_spec(asset, self.settings)
        return self.translation(spec, asset) if self.translation else spec

    def execute(
        self, context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: dg.Config | None
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Do the work of one op. Override it to do more in a run.

        Args:
            context: the execution in Dagster, with the selected assets and checks.
            lake: the open lake.
            assets: the table and the specs of its assets.
            config: the run's configuration of the op; its class says which work the op does.

        Yields:
            One result for each selected asset and check.

        Raises:
            DdbLakeError: the step failed. Errors that a retry may resolve are retried by the op.
        """
        if isinstance(config, LoadConfig):
            yield from load_snapshot(context, lake, assets, config)
        elif isinstance(config, StreamsConfig):
            yield from land_streams(context, lake, assets, config)
        elif isinstance(config, IncrementsConfig):
            yield from start_increments(context, lake, assets, config)
        elif isinstance(config, ReplicateConfig):
            yield from replicate_table(context, lake, assets, config)
        elif isinstance(config, ApplyConfig):
            yield from Applying(context, lake, assets, self._assets_by_table).run(config)
        elif context.selected_asset_keys.isdisjoint(assets.keys("daily")):
            yield from export_table(context, lake, assets)
        else:
            yield from keep_days(context, lake, assets)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the lake: assets, checks, jobs, sensor and schedules. Reads neither AWS nor the warehouse.

        Raises ConfigError if `spark.launch` names a service of AWS and dagster-aws is not installed, and if an entry of `tables` has
        `match` and there is no list of its tables beside the component's file.
        """
        if self.settings.matching_tables:
            return self.with_inventory(_configuration(Path(context.path))).build_defs(context)
        launching.check_installed(self.settings, self.settings.tables)
        lake = self._lake_name(context)
        own = lake_definitions(lake, self._assets_by_table, self._open, self.execute, self.settings)
        models = dbt_definitions(lake, self.settings, self._assets_by_table)
        merged = dg.Definitions.merge(own, models) if models is not None else own
        following = self.settings.starts("following")
        status = dg.DefaultSensorStatus.RUNNING if following else dg.DefaultSensorStatus.STOPPED
        followed = with_following_sensor(lake, merged, {LAKE_TAG: lake}, status)
        if not self.settings.one_process_per_run:
            return followed
        return dg.Definitions.merge(followed, dg.Definitions(executor=dg.in_process_executor))

    def with_inventory(self, config: Path) -> DynamoDBLakeComponent:
        """Return a copy with the tables that `ddb-lake discover` wrote beside a configuration, in place of the entries with `match`.

        Args:
            config: the file that has the attributes of this component.

        Raises:
            ConfigError: there is no such list, or it is not of these entries.
        """
        settings = with_inventory(self.settings, config)
        found = self.model_copy(update={"tables": settings.tables})
        for name in ("settings", "_assets_by_table"):  # of the entries
            found.__dict__.pop(name, None)
        return found

    @cached_property
    def _assets_by_table(self) -> Mapping[str, TableAssets]:
        return {table.name: table_assets(table, self.get_asset_spec, self.key_prefix) for table in self.settings.tables}

    @contextmanager
    def _open(self, log: Any = None) -> Iterator[Lake]:
        """Open the lake; its warnings go to the run's log."""
        with open_lake(self.settings, warn=(log or _LOG).warning) as lake:
            yield lake

    def _lake_name(self, context: dg.ComponentLoadContext) -> str:
        """The first part of the names of jobs and the sensor: `key_prefix`, or else the component's folder below `defs`."""
        if self.key_prefix:
            return python_name(self.key_prefix)
        path = Path(context.path)
        root = context.defs_module_path
        parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[-1:]
        return python_name("_".join(part.removesuffix(".yaml") for part in parts) or "ddb_lake")


def _configuration(path: Path) -> Path:
    """The file of a component, from the path that Dagster states: a file or a folder."""
    candidates = (path, path / "defs.yaml", path / "component.yaml")
    return next((file for file in candidates if file.is_file()), path / "defs.yaml")
