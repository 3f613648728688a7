"""What a job on Spark is started with: pure functions of the configuration, the same for every run.

A job is `ddb_lake.orchestration.spark.job`; its parameters come through Pipes (`job_extras`), so no part
of a run is in a command line. References: Glue's and EMR Serverless's StartJobRun.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ddb_lake.config import LakeSettings, SparkSettings

Action: TypeAlias = Literal["load", "apply", "update"]
SCRIPT = Path(__file__).with_name("job.py")


def job_extras(
    settings: LakeSettings, table: str, action: Action, uris: Sequence[str], options: Mapping[str, bool]
) -> dict[str, Any]:
    """The parameters that Pipes passes to the job: the lake and the work. It must not launch another job."""
    document = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document.get("spark", {}).pop("launch", None)
    return {"lake": document, "table": table, "action": action, "uris": list(uris), "options": dict(options)}


def process_command(spark: SparkSettings) -> list[str]:
    """spark-submit on this machine (client mode), to whatever master is configured."""
    import pyspark

    submit = str(Path(pyspark.__file__).parent / "bin" / "spark-submit")
    master = ["--master", spark.master] if spark.master else []
    conf = {"spark.pyspark.python": sys.executable, "spark.pyspark.driver.python": sys.executable, **spark.settings}
    return [submit, *master, *_conf(conf), str(SCRIPT)]


def emr_parameters(spark: SparkSettings, table: str, action: Action) -> dict[str, Any]:
    """StartJobRun of EMR Serverless."""
    launch = spark.launch
    assert launch is not None and launch.application_id is not None, "checked when the settings were made"
    parameters: dict[str, Any] = {
        "applicationId": launch.application_id,
        "executionRoleArn": launch.role_arn,
        "name": f"ddb-lake-{action}-{table}",
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": launch.entry_point,
                "sparkSubmitParameters": shlex.join(_conf(spark.settings)),
            }
        },
        "configurationOverrides": {"monitoringConfiguration": _emr_logs(launch.log_group)},
    }
    if launch.timeout_minutes is not None:
        parameters["executionTimeoutMinutes"] = launch.timeout_minutes
    return parameters


def glue_parameters(spark: SparkSettings, table: str, action: Action) -> dict[str, Any]:
    """StartJobRun of Glue. The job itself (script, role, workers, `--additional-python-modules`) is made beforehand."""
    launch = spark.launch
    assert launch is not None and launch.job is not None, "checked when the settings were made"
    arguments = {"--ddb-lake-table": table, "--ddb-lake-action": action}
    if spark.settings:  # Glue takes one --conf, with the others inside its value
        arguments["--conf"] = " --conf ".join(f"{name}={value}" for name, value in spark.settings.items())
    parameters: dict[str, Any] = {"JobName": launch.job, "Arguments": arguments}
    if launch.timeout_minutes is not None:
        parameters["Timeout"] = launch.timeout_minutes
    return parameters


def _conf(settings: Mapping[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]


def _emr_logs(log_group: str | None) -> dict[str, Any]:
    """Pipes reads its messages from the driver's log."""
    logs: dict[str, Any] = {"enabled": True}
    if log_group is not None:
        logs["logGroupName"] = log_group
    return {"cloudWatchLoggingConfiguration": logs}
