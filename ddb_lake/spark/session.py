"""The SparkSession of this process, which is created on first use and shared."""

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
    "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",  # an item may have 400 KB
    "spark.task.maxFailures": "4",
}


def open_spark(master: str | None, settings: Mapping[str, str]) -> Any:
    """The active SparkSession (of spark-submit or Glue), else a new one.

    Tasks run this interpreter with this package, unless `settings` name others for them.

    Args:
        master: the URL of the cluster; None for Spark's default.
        settings: Spark's properties, for example `spark.pyspark.python` and `spark.archives`.

    Raises:
        ConfigError: PySpark is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySpark warns about pandas, which is not used here
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise ConfigError("engine: spark needs PySpark: pip install '.[spark]' in a checkout") from error
        active = SparkSession.getActiveSession()
        if active is not None:
            return active
        if "spark.pyspark.python" not in settings:
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = SparkSession.builder.appName("ddb-lake")
        if master is not None:
            builder = builder.master(master)
        home = str(Path(ddb_lake.__file__).parents[1])
        defaults = {**_DEFAULTS, "spark.executorEnv.PYTHONPATH": home} if _sees_local_files(master) else _DEFAULTS
        for name, value in {**defaults, **settings}.items():
            builder = builder.config(name, value)
        return builder.getOrCreate()


def _sees_local_files(master: str | None) -> bool:
    """Whether the workers are assumed to see this machine's files: those of a local or a standalone Spark."""
    return master is None or master.startswith(("local", "spark://"))
