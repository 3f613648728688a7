"""Stages of a table with `engine: spark`: in this process, or as a job that Pipes launches, by `spark.launch`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg
from dagster import PipesEnvContextInjector

from ddb_lake import errors
from ddb_lake.aws.session import client as aws_client
from ddb_lake.config import LakeSettings, TableSettings
from ddb_lake.core.schema.misfits import Misfit
from ddb_lake.core.schema.table_schema import NameCollision
from ddb_lake.errors import ConfigError, TerminalError
from ddb_lake.orchestration.spark.parameters import Action, emr_parameters, glue_parameters, job_extras, process_command
from ddb_lake.pipeline.apply.apply import ApplyResult, apply_objects
from ddb_lake.pipeline.apply.changelog import IngestResult
from ddb_lake.pipeline.load.load import LoadResult, load_export
from ddb_lake.pipeline.merge.current import CurrentResult, update_current
from ddb_lake.pipeline.merge.entities import EntityResult
from ddb_lake.pipeline.open_lake import Lake


def load(
    context: dg.AssetExecutionContext,
    lake: Lake,
    table: TableSettings,
    uri: str,
    recreated: bool = False,
    reject: bool = False,
) -> LoadResult:
    """`pipeline.load.load.load_export` where the table's engine is."""
    if not launches(lake.settings, table):
        return load_export(lake, table.name, uri, recreated, reject)
    found = launch(context, lake.settings, table.name, "load", [uri], recreated=recreated, reject=reject)
    entities = {name: _misfits(several) for name, several in found["entity_misfits"].items()}
    tuples = {"doubts": tuple(found["doubts"]), "misfits": _misfits(found["misfits"]), "entity_misfits": entities}
    return LoadResult(**{**_with_tuples(found), **tuples})


def apply(context: dg.AssetExecutionContext, lake: Lake, table: TableSettings, uris: Sequence[str]) -> ApplyResult:
    """`pipeline.apply.apply.apply_objects` where the table's engine is."""
    if not launches(lake.settings, table):
        return apply_objects(lake, table.name, uris)
    found = launch(context, lake.settings, table.name, "apply", uris)
    tables = {
        name: IngestResult(**{**one, "changed_rules": tuple(one["changed_rules"])})
        for name, one in found["tables"].items()
    }
    current = {name: _current(one) for name, one in found["current"].items()}
    return ApplyResult(**{**found, "tables": tables, "current": current, "doubts": tuple(found["doubts"])})


def update(context: dg.AssetExecutionContext, lake: Lake, table: TableSettings) -> CurrentResult:
    """`pipeline.merge.current.update_current` where the table's engine is."""
    if not launches(lake.settings, table):
        return update_current(lake, table.name)
    return _current(launch(context, lake.settings, table.name, "update", ()))


def check_installed(settings: LakeSettings, tables: Iterable[TableSettings]) -> None:
    """Raise ConfigError if a table's work is launched on AWS and dagster-aws is not installed."""
    launch = settings.spark.launch
    on_aws = launch is not None and launch.type != "process" and any(launches(settings, table) for table in tables)
    if on_aws and importlib.util.find_spec("dagster_aws") is None:
        raise ConfigError(
            "`spark.launch` of a job on AWS needs dagster-aws", hint="pip install '.[launch]' in a checkout"
        )


def launches(settings: LakeSettings, table: TableSettings) -> bool:
    """Whether the table's work is done by a job of its own."""
    return table.engine == "spark" and settings.spark.launch is not None


def launch(
    context: dg.AssetExecutionContext,
    settings: LakeSettings,
    table: str,
    action: Action,
    uris: Sequence[str],
    **options: bool,
) -> dict[str, Any]:
    """Run the job and return its last message. Raises the job's refusal, or TerminalError if it ended without a message."""
    extras = job_extras(settings, table, action, uris, options)
    spark = settings.spark
    assert spark.launch is not None, "the caller has checked it"
    invocation: Any
    if spark.launch.type == "process":
        client = dg.PipesSubprocessClient()
        invocation = client.run(context=context, command=process_command(spark), extras=extras)
    elif spark.launch.type == "emr-serverless":
        from dagster_aws.pipes import PipesEMRServerlessClient  # start-up time: importing it takes as long as Dagster

        emr = PipesEMRServerlessClient(client=aws_client("emr-serverless"))
        parameters: Any = emr_parameters(spark, table, action)
        invocation = emr.run(context=context, start_job_run_params=parameters, extras=extras)
    else:
        from dagster_aws.pipes import PipesGlueClient

        glue = PipesGlueClient(PipesEnvContextInjector(), client=aws_client("glue"))
        parameters = glue_parameters(spark, table, action)
        invocation = glue.run(context=context, start_job_run_params=parameters, extras=extras)
    messages = invocation.get_custom_messages()
    if not messages:
        raise TerminalError("the job on Spark ended without saying what it did", table=table, hint="see its log")
    return result_of(messages[-1])


def result_of(message: dict[str, Any]) -> dict[str, Any]:
    """What a job did. Raises the error that it ended with."""
    if "error" in message:
        known = getattr(errors, message["error"], TerminalError)
        raise known(message["said"])
    result: dict[str, Any] = message["result"]
    return result


def _with_tuples(found: dict[str, Any]) -> dict[str, Any]:
    """The fields of a result that are lists and objects in JSON."""
    return {**found, "notes": tuple(found["notes"]), "name_collisions": _collisions(found)}


def _collisions(found: dict[str, Any]) -> tuple[NameCollision, ...]:
    return tuple(NameCollision(**one) for one in found["name_collisions"])


def _current(found: dict[str, Any]) -> CurrentResult:
    entities = tuple(
        EntityResult(**{**one, "name_collisions": _collisions(one), "misfits": _misfits(one["misfits"])})
        for one in found["entities"]
    )
    return CurrentResult(**{**_with_tuples(found), "entities": entities, "misfits": _misfits(found["misfits"])})


def _misfits(found: Iterable[dict[str, Any]]) -> tuple[Misfit, ...]:
    return tuple(Misfit(**one) for one in found)
