"""The examination of Spark, for tables with `engine: spark`."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, ok
from ddb_lake.cli.doctor.subject import LakeSubject


def examine_spark(subject: LakeSubject) -> Iterator[Finding]:
    """PySpark, Java and the master are there, and the executors have the packages. It starts Spark."""
    from ddb_lake.spark.requirements import check_java, check_master, check_pyspark  # start-up time
    from ddb_lake.spark.session import open_spark

    spark = subject.settings.spark
    version = check_pyspark()
    java = check_java(version)
    check_master(spark.master)
    cores = open_spark(spark.master, spark.settings).sparkContext.defaultParallelism
    named = ".".join(map(str, version))
    yield ok(f"PySpark {named}, Java {java}, {cores} cores; the executors have the packages")
