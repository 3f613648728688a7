"""What jobs on Spark are started with, and that AWS's own models take it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from ddb_lake.config import LakeSettings, parse_settings
from ddb_lake.errors import CheckFailed, ConfigError, TransientError
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.spark import job
from ddb_lake.orchestration.spark.job import answer
from ddb_lake.orchestration.spark.launching import result_of
from ddb_lake.orchestration.spark.parameters import SCRIPT, emr_parameters, glue_parameters, job_extras, process_command

EMR = {
    "type": "emr-serverless",
    "application_id": "00fkht2eodujab09",
    "role_arn": "arn:aws:iam::111122223333:role/ddb-lake-spark",
    "entry_point": "s3://code/job.py",
    "log_group": "/ddb-lake/spark",
    "timeout_minutes": 90,
}


def lake(launch: dict[str, Any] | None, **settings: str) -> LakeSettings:
    spark = {"settings": settings, **({"launch": launch} if launch else {})}
    tables = [{"name": "orders", "key": ["id"], "engine": "spark", "validate": {"schema": {"type": "object"}}}]
    return parse_settings({"warehouse": "s3://lake/warehouse", "spark": spark, "tables": tables}, "test")


def faults(service: str, parameters: dict[str, Any]) -> str:
    """What botocore's model of StartJobRun finds wrong."""
    model = botocore.session.get_session().get_service_model(service).operation_model("StartJobRun")
    found: str = ParamValidator().validate(parameters, model.input_shape).generate_report()
    return found


def test_emr_parameters_hold_the_settings_and_fit_the_api() -> None:
    spark = lake(EMR, **{"spark.executor.memory": "6g", "spark.archives": "s3://code/env.tar.gz#env"}).spark
    found = emr_parameters(spark, "orders", "load")
    driver = found["jobDriver"]["sparkSubmit"]
    assert shlex.split(driver["sparkSubmitParameters"]) == [
        *("--conf", "spark.executor.memory=6g"),
        *("--conf", "spark.archives=s3://code/env.tar.gz#env"),
    ]
    assert driver["entryPoint"] == "s3://code/job.py"
    assert found["executionTimeoutMinutes"] == 90
    logs = found["configurationOverrides"]["monitoringConfiguration"]["cloudWatchLoggingConfiguration"]
    assert logs == {"enabled": True, "logGroupName": "/ddb-lake/spark"}
    assert faults("emr-serverless", {**found, "clientToken": "t"}) == ""


def test_glue_parameters_hold_the_settings_in_one_argument_and_fit_the_api() -> None:
    launch = {"type": "glue", "job": "ddb-lake", "timeout_minutes": 60}
    settings = {"spark.sql.shuffle.partitions": "400", "spark.task.maxFailures": "8"}
    found = glue_parameters(lake(launch, **settings).spark, "orders", "apply")
    assert found["JobName"] == "ddb-lake"
    assert found["Timeout"] == 60
    assert found["Arguments"]["--conf"] == "spark.sql.shuffle.partitions=400 --conf spark.task.maxFailures=8"
    assert faults("glue", found) == ""


def test_process_command_submits_the_script_to_the_master() -> None:
    settings = lake({"type": "process"}).spark.model_copy(update={"master": "spark://host:7077"})
    command = process_command(settings)
    assert command[1:3] == ["--master", "spark://host:7077"]
    assert command[-1] == str(SCRIPT)
    assert SCRIPT.is_file()


def test_job_extras_give_the_same_lake_back_without_the_launch() -> None:
    settings = lake(EMR, **{"spark.executor.memory": "6g"})
    told = json.loads(json.dumps(job_extras(settings, "orders", "load", ["s3://b/k"], {"recreated": True})))
    again = parse_settings(told["lake"], "told")
    assert again.spark.launch is None
    assert again.spark.settings == settings.spark.settings
    assert again.tables == settings.tables
    assert (told["table"], told["action"], told["uris"]) == ("orders", "load", ["s3://b/k"])


@pytest.mark.parametrize("launch", [{"type": "glue"}, {"type": "emr-serverless", "application_id": "a"}])
def test_launch_that_lacks_what_it_needs_is_refused(launch: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"launch: .* needs"):
        lake(launch)


@pytest.mark.parametrize("error", [CheckFailed, TransientError])
def test_what_a_job_refuses_is_raised_where_it_was_launched(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error("orders: not like this")

    monkeypatch.setattr(job, "load_export", refuse)
    told = {"table": "orders", "action": "load", "uris": ["x"], "options": {}}
    with open_lake(parse_settings({"warehouse": str(tmp_path)}, "test")) as opened:
        message = json.loads(json.dumps(answer(opened, told)))
    with pytest.raises(error, match="not like this"):
        result_of(message)
