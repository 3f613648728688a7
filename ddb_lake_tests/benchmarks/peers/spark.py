"""Spark alone, without an Iceberg jar (no registry of Python packages has one): Parquet read and rewritten."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import duckdb

from ddb_lake_tests.benchmarks.measuring import measured
from ddb_lake_tests.benchmarks.peers.shapes import ORDER, change_files, columns, orders_sql, rows_of, size_of


def spark_session() -> Any:
    """A session on two threads, started and warm."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.memory": "2g",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.showConsoleProgress": "false",
    }
    builder: Any = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = builder.master("local[2]").getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        session.range(2).count()
    return session


def spark_type(shape: str) -> str:
    """A struct's type as Spark spells it."""
    text = shape.replace("VARCHAR[]", "ARRAY<STRING>").replace("VARCHAR", "STRING").replace("JSON", "STRING")
    return text.replace("STRUCT(", "STRUCT<").replace(")", ">")


def prepare_spark(export: str, folder: str) -> None:
    """A folder of Parquet files of the export's orders."""
    shutil.rmtree(f"{folder}/spark", ignore_errors=True)
    with duckdb.connect() as con:
        con.execute("SET memory_limit = '4GB'")
        options = "FORMAT parquet, COMPRESSION zstd, FILE_SIZE_BYTES '128MB'"
        con.execute(f"COPY ({orders_sql(export)}) TO '{folder}/spark' ({options})")


def apply_spark(landed: str, folder: str) -> dict[str, Any]:
    """Spark SQL: the newest image of each key, an anti-join with the table, and the whole table rewritten."""
    spark = spark_session()
    with measured() as took:
        shape = f"STRUCT<dynamodb STRUCT<ApproximateCreationDateTime BIGINT, NewImage {spark_type(ORDER)}>>"
        records = spark.read.text(change_files(landed)).selectExpr(f"from_json(value, '{shape}').dynamodb AS d")
        images = records.selectExpr(*columns("d.NewImage").split(", "), "d.ApproximateCreationDateTime AS changed")
        images.createOrReplaceTempView("images")
        spark.read.parquet(f"{folder}/spark").createOrReplaceTempView("orders")
        newest = spark.sql(
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY customer, order_id ORDER BY changed DESC) AS place"
            " FROM images) WHERE place = 1"
        ).drop("place", "changed")
        newest.cache().createOrReplaceTempView("newest")
        whole = spark.sql(
            "SELECT /*+ BROADCAST(n) */ o.* FROM orders o LEFT ANTI JOIN newest n"
            " ON o.customer = n.customer AND o.order_id = n.order_id"
        ).unionByName(newest)
        whole.write.mode("overwrite").option("compression", "zstd").parquet(f"{folder}/spark-next")
        shutil.rmtree(f"{folder}/spark")
        Path(f"{folder}/spark-next").rename(f"{folder}/spark")
    spark.stop()
    return took.figures(rows_of(f"'{folder}/spark/*.parquet'"), size_of(f"{folder}/spark"))
