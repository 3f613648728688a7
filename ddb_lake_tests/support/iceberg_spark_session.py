"""Runs SQL on Spark 3.5 with Iceberg: a script of the environment `build/iceberg-spark`, which has only PySpark.

`support.iceberg_spark` starts it. Requests arrive on standard input and answers leave on standard output, each a pickle; what the
JVM prints goes to standard error. A request is a pair:

("sql", statement)           the rows, as tuples
("view", (name, location))   a temporary view of the table that a metadata file describes; no rows
("metadata", table)          one row of one value: the metadata file that Spark's catalog names as the table's newest
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from typing import Any

from pyspark.sql import SparkSession


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    builder = SparkSession.builder
    for name, value in json.loads(sys.argv[1]).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    while True:
        try:
            kind, argument = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        try:
            answer = (True, _answer(spark, kind, argument))
        except Exception as error:  # the caller raises it
            answer = (False, f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()
    spark.stop()


def _answer(spark: Any, kind: str, argument: Any) -> list[tuple[Any, ...]]:
    if kind == "sql":
        return [tuple(row) for row in spark.sql(argument).collect()]
    if kind == "view":
        name, location = argument
        spark.read.format("iceberg").load(location).createOrReplaceTempView(name)
        return []
    if kind == "metadata":
        table = spark._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, argument)
        return [(table.operations().current().metadataFileLocation(),)]
    raise ValueError(f"{kind!r} is no kind of request")


if __name__ == "__main__":
    main()
