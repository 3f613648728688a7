"""The SparkSession of this process, which is created on first use and shared."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakSet

import ddb_lake
from ddb_lake.errors import ConfigError
from ddb_lake.spark.requirements import check_executors, check_java, check_master, check_pyspark, check_session

_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.task.maxFailures": "4",
    "spark.python.daemon.module": "ddb_lake.spark.daemon",
    "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1",
}
"""Properties that `settings` can replace. No row passes through the driver's JVM, so it compiles its code once and does not
optimize it; Java options in `spark.driver.extraJavaOptions` come after these."""
_with_packages: WeakSet[Any] = WeakSet()
"""The Spark contexts whose executors were checked."""


def open_spark(master: str | None, settings: Mapping[str, str]) -> Any:
    """The active SparkSession (of spark-submit or Glue), else a new one.

    Tasks run this interpreter with this package, unless `settings` name others for them.

    Args:
        master: the URL of the cluster; None for Spark's default.
        settings: Spark's properties, for example `spark.pyspark.python` and `spark.archives`.

    Raises:
        ConfigError: PySpark, Java, the master or the executors are not as `spark.requirements` says.
    """
    version = check_pyspark()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySpark warns about pandas, which is not used here
        from pyspark.sql import SparkSession

        spark = SparkSession.getActiveSession()
        if spark is None:
            check_master(master)
            java = check_java(version)
            spark = _start(SparkSession.builder.appName("ddb-lake"), master, settings, java)
        check_session(spark)
        if spark.sparkContext not in _with_packages:
            check_executors(spark.sparkContext)
            _with_packages.add(spark.sparkContext)
        return spark


def _start(builder: Any, master: str | None, settings: Mapping[str, str], java: int) -> Any:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    if "spark.pyspark.python" not in settings:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if master is not None:
        builder = builder.master(master)
    home = str(Path(ddb_lake.__file__).parents[1])
    defaults = {**_DEFAULTS, "spark.executorEnv.PYTHONPATH": home} if _sees_local_files(master) else _DEFAULTS
    for name, value in {**defaults, **settings}.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except (Py4JError, PySparkException) as error:
        lines = str(error).strip().splitlines()
        raise ConfigError(
            f"Spark does not start with Java {java}: {(lines or ['no reason given'])[0][:300]}",
            hint="correct `spark.master` and `spark.settings`; the text above this error has Spark's own messages",
        ) from error


def _sees_local_files(master: str | None) -> bool:
    """Whether the workers are assumed to see this machine's files: those of a local or a standalone Spark."""
    return master is None or master.startswith(("local", "spark://"))
