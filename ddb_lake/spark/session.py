"""The Spark session of a process: made on first use, and shared by all that the process does."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ddb_lake
from ddb_lake.errors import ConfigError

_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",  # an image may have 400 KB
    "spark.task.maxFailures": "4",
}


def open_spark(master: str | None, settings: Mapping[str, str]) -> Any:
    """The process's SparkSession: the one there is (spark-submit, Glue), else a new one.

    The tasks run this interpreter with this package, unless `settings` name another one for them (`spark.pyspark.python`,
    `spark.archives`). Raises ConfigError without PySpark.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySpark's remarks on pandas, which is not used here
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise ConfigError("engine: spark needs PySpark: install ddb-lake[spark]") from error
        active = SparkSession.getActiveSession()
        if active is not None:
            return active
        if "spark.pyspark.python" not in settings:
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = SparkSession.builder.appName("ddb-lake")
        if master is not None:
            builder = builder.master(master)
        home = str(Path(ddb_lake.__file__).parents[1])
        defaults = {**_DEFAULTS, "spark.executorEnv.PYTHONPATH": home} if _is_ours(master) else _DEFAULTS
        for name, value in {**defaults, **settings}.items():
            builder = builder.config(name, value)
        return builder.getOrCreate()


def _is_ours(master: str | None) -> bool:
    """Whether the workers see this machine's files, as a local or standalone Spark's do."""
    return master is None or master.startswith(("local", "spark://"))
