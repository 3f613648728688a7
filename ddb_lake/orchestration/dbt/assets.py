"""dbt's models as Dagster assets. Imported only where dagster-dbt is installed."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliInvocation, DbtCliResource, dbt_assets
from dagster_dbt.core.dbt_event_iterator import DbtEventIterator

from ddb_lake.config import LakeSettings
from ddb_lake.core.operations.display_text import escape_markdown
from ddb_lake.orchestration.dbt.manifest import executable, flags, fresh_manifest, profiles_folder, project_folder
from ddb_lake.orchestration.following import follows_dependencies
from ddb_lake.orchestration.run_requests import LAKE_TAG
from ddb_lake.orchestration.specs import TableAssets

DATABASE_VARIABLE = "DDB_LAKE_DBT_DATABASE"
ORIGINS = "columns made of"
DATABASE = "lake_marts.duckdb"
"""The models' DuckDB file, in the working folder unless the variable names another."""


def model_definitions(lake: str, settings: LakeSettings, tables: Mapping[str, TableAssets]) -> dg.Definitions:
    """The definitions of the lake's dbt project."""
    assets = _assets(lake, settings, tables)
    job = dg.define_asset_job(
        f"{lake}_dbt",
        selection=dg.AssetSelection.assets(assets),
        tags={LAKE_TAG: lake},
        description="Builds and tests all dbt models over the lake.",
    )
    cron = settings.dbt.schedule
    running = settings.starts("dbt")
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    schedules = (
        [dg.ScheduleDefinition(f"{lake}_dbt_schedule", job=job, cron_schedule=cron, default_status=status)]
        if cron
        else []
    )
    return dg.Definitions(assets=[assets], jobs=[job], schedules=schedules)


def _assets(lake: str, settings: LakeSettings, tables: Mapping[str, TableAssets]) -> dg.AssetsDefinition:
    @dbt_assets(  # type: ignore[untyped-decorator]  # dagster-dbt is not looked into
        manifest=fresh_manifest(settings.dbt),
        select=settings.dbt.select,
        exclude=settings.dbt.exclude or None,
        name=f"{lake}__dbt",
        dagster_dbt_translator=LakeTranslator(tables, settings.key_prefix, follows=settings.dbt.schedule is None),
        pool=f"ddb_lake_dbt_{lake}",  # DuckDB's file takes one writer
    )
    def models(context: dg.AssetExecutionContext) -> Iterator[Any]:
        dbt = DbtCliResource(
            project_dir=project_folder(settings.dbt),
            profiles_dir=profiles_folder(settings.dbt),
            dbt_executable=executable(),
        )
        with _pointed_at(settings):
            built = dbt.cli(["build", *flags(settings.dbt)], context=context)
            try:
                yield from _events_of(built, settings.dbt.column_lineage)
            finally:
                _let_go(built.adapter)

    definition: dg.AssetsDefinition = models
    return definition


def _events_of(built: DbtCliInvocation, lineage: bool) -> Iterator[Any]:
    """What dbt built and tested, with counts and columns, once dbt is done; then its failure, if it failed.

    dagster-dbt would look for the figures of models while dbt is building others, and for that it polls without a
    pause: two threads that spin as long as dbt runs. DuckDB's file cannot be read in that time anyway.
    """
    events: list[Any] = []
    failure: Exception | None = None
    try:
        for event in built.stream():
            events.append(event)
    except Exception as error:
        failure = error
    complete = DbtEventIterator(iter(events), dbt_cli_invocation=built)
    for event in complete.fetch_row_counts().fetch_column_metadata(with_column_lineage=lineage):
        yield _with_origins(event)
    if failure is not None:
        raise failure


def _with_origins(event: Any) -> Any:
    """An event that also has its column lineage as a table: Dagster's open-source UI does not draw the graph."""
    lineage = event.metadata.get("dagster/column_lineage") if hasattr(event, "with_metadata") else None
    if not isinstance(lineage, dg.TableColumnLineageMetadataValue):
        return event
    return event.with_metadata({**event.metadata, ORIGINS: dg.MetadataValue.md(origins(lineage.value))})


def origins(lineage: dg.TableColumnLineage) -> str:
    """A Markdown table: each column, and the columns of other assets that it is made of."""
    rows = [["column", "made of"], ["---", "---"]]
    for column, deps in sorted(lineage.deps_by_column.items()):
        found = sorted(f"`{dep.asset_key.to_user_string()}`.{dep.column_name}" for dep in deps)
        rows.append([column, ", ".join(found) or "no column"])
    return "\n".join("| " + " | ".join(map(escape_markdown, row)) + " |" for row in rows)


def _let_go(adapter: Any) -> None:
    """Close what was opened for looking at the models: DuckDB's file open here would keep the next dbt from writing."""
    if adapter is None:
        return
    adapter.cleanup_connections()
    environment = getattr(adapter.connections, "_ENV", None)  # dbt-duckdb's own way forgets it and leaves it open
    if environment is not None:
        environment.close()
        type(adapter.connections).close_all_connections()


@contextmanager
def _pointed_at(settings: LakeSettings) -> Iterator[None]:
    """The environment in which dbt, in a process of its own and in this one, finds the lake and the models' database."""
    warehouse = settings.warehouse
    if "://" not in warehouse:
        warehouse = str(Path(warehouse).expanduser().resolve())
    lake = {
        "warehouse": warehouse,
        "catalog": settings.catalog.model_dump(mode="json"),
        "tables": [{"name": table.name} for table in settings.tables],
    }
    with TemporaryDirectory(prefix="ddb-lake-dbt-") as folder:
        config = Path(folder) / "lake.json"
        config.write_text(json.dumps(lake), encoding="utf-8")
        database = os.environ.get(DATABASE_VARIABLE) or DATABASE
        before = {name: os.environ.get(name) for name in ("DDB_LAKE_CONFIG", DATABASE_VARIABLE)}
        os.environ |= {"DDB_LAKE_CONFIG": str(config), DATABASE_VARIABLE: str(Path(database).resolve())}
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


class LakeTranslator(DagsterDbtTranslator):  # type: ignore[misc]  # dagster-dbt is not looked into
    """Sources are the lake's assets. A model's key and group have its folder below `models`, after `key_prefix` if there is one."""

    def __init__(self, tables: Mapping[str, TableAssets], key_prefix: str = "", follows: bool = False) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))
        self._tables = tables
        self._key_prefix = key_prefix
        self._follows = follows

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """`<folder>/<model>`; for a source the key of the lake's asset, whatever a translation calls it."""
        meta = _meta(dbt_resource_props)
        ours = meta.get("ddb_lake", {})
        assets = self._tables.get(ours.get("table", ""))
        if assets is not None and ours.get("entity") in assets.entities:
            return assets.entities[ours["entity"]].key
        if assets is not None:
            return assets.key("changes" if ours["stage"] == "changes" and "changes" in assets.specs else "current")
        if dbt_resource_props["resource_type"] == "model" and "asset_key" not in meta.get("dagster", {}):
            path = (self._key_prefix, _layer(dbt_resource_props), dbt_resource_props["name"])
            return dg.AssetKey([part for part in path if part])
        key: dg.AssetKey = super().get_asset_key(dbt_resource_props)
        return key

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[Any] | None:
        """What dbt's `meta.dagster` says; else models follow the lake, unless a schedule builds them."""
        named: dg.AutomationCondition[Any] | None = super().get_automation_condition(dbt_resource_props)
        follows = self._follows and dbt_resource_props["resource_type"] == "model"
        return named or (follows_dependencies() if follows else None)

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        """A dbt test as a check. One without a description gets a sentence that says what it tests."""
        spec: dg.AssetCheckSpec | None = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None or spec.description:
            return spec
        return spec._replace(description=dbt_test_sentence(manifest["nodes"].get(unique_id, {"name": spec.name})))

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The model's folder below `models`, unless dbt says another group."""
        named: str | None = super().get_group_name(dbt_resource_props)
        if named or dbt_resource_props["resource_type"] != "model":
            return named
        return "_".join(part for part in (self._key_prefix, _layer(dbt_resource_props)) if part)


def dbt_test_sentence(test: Mapping[str, Any]) -> str:
    """What a dbt test tests: its own description, else a sentence from its kind, its column and its arguments."""
    if test.get("description"):
        return str(test["description"])
    kind = test.get("test_metadata", {})
    name, given = kind.get("name"), kind.get("kwargs", {})
    column = given.get("column_name") or test.get("column_name")
    known = {
        "not_null": f"No row has NULL in {column}.",
        "unique": f"No two rows have the same {column}.",
        "accepted_values": f"{column} has no value other than {', '.join(map(str, given.get('values', ())))}.",
        "relationships": f"Each {column} is in {given.get('to')}, column {given.get('field')}.",
    }
    if name in known and column:
        return escape_markdown(known[name])
    text = f"dbt's test {name} of {column}" if name and column else f"dbt's test {name or test['name']}"
    return escape_markdown(f"{text}: the query of the test returns no row.")


def _meta(props: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = props.get("config", {}).get("meta") or props.get("meta") or {}
    return found


def _layer(props: Mapping[str, Any]) -> str:
    """The first folder of a model below `models`; `models` itself for one without."""
    _, *folders, _ = props["fqn"]
    return str(folders[0]) if folders else "models"
