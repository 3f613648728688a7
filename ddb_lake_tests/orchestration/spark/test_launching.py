"""Jobs on AWS need dagster-aws, which is an extra. The result of a launched step is what the job had."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.config import parse_settings
from ddb_lake.errors import ConfigError
from ddb_lake.orchestration.spark import launching
from ddb_lake.pipeline.apply.apply import ApplyResult
from ddb_lake.pipeline.apply.changelog import IngestResult
from ddb_lake.pipeline.merge.current import CurrentResult

LAUNCHES: dict[str, dict[str, Any]] = {
    "glue": {"type": "glue", "job": "merge"},
    "emr-serverless": {
        "type": "emr-serverless",
        "application_id": "a",
        "role_arn": "r",
        "entry_point": "s3://b/job.py",
    },
    "process": {"type": "process"},
}


def definitions(launch: str, engine: str = "spark") -> dg.Definitions:
    """The definitions of a lake of one table whose work is launched."""
    table = {"name": "orders", "key": ["id"], "engine": engine, "changes": {"uri": "landing"}}
    lake = parse_settings({"warehouse": "lake", "spark": {"launch": LAUNCHES[launch]}, "tables": [table]}, "test")
    return dg.build_defs_for_component(
        DynamoDBLakeComponent(warehouse=lake.warehouse, spark=lake.spark, tables=lake.tables)
    )


@pytest.fixture
def without_dagster_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of an installation without the extra."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "dagster_aws"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dagster_aws", None)


@pytest.mark.parametrize("launch", ["glue", "emr-serverless"])
def test_job_on_aws_without_dagster_aws_fails_when_definitions_are_loaded(
    without_dagster_aws: None, launch: str
) -> None:
    with pytest.raises(ConfigError, match=r"\.\[launch\]"):
        definitions(launch)


@pytest.mark.parametrize(("launch", "engine"), [("process", "spark"), ("glue", "duckdb")])
def test_other_lakes_do_not_need_dagster_aws(without_dagster_aws: None, launch: str, engine: str) -> None:
    assert definitions(launch, engine).assets


@pytest.mark.parametrize("launch", ["glue", "emr-serverless"])
def test_dagster_aws_of_this_environment_has_the_clients(launch: str) -> None:
    from dagster_aws.pipes import PipesEMRServerlessClient, PipesGlueClient

    assert definitions(launch).assets and PipesEMRServerlessClient and PipesGlueClient


def test_result_of_a_launched_apply_is_that_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    ingested = IngestResult("orders", new=1, by_event={"INSERT": 1}, changed_rules=("note",))
    result = ApplyResult("orders", tables={"orders": ingested}, current={"orders": CurrentResult("orders", rows=1)})
    monkeypatch.setattr(launching, "launches", lambda *_: True)
    monkeypatch.setattr(launching, "launch", lambda *_: json.loads(json.dumps(asdict(result))))
    no_context, lake, table = (cast("Any", SimpleNamespace(settings=None, name="orders")) for _ in range(3))
    assert launching.apply(no_context, lake, table, []) == result
