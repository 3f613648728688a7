"""Peers of the full load, each doing it its own best way.

None of them verifies manifests, discovers a schema, keeps odd values, or commits to Iceberg; they parse the columns of
the generator's orders. They get the types of its columns, or infer them.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb

from ddb_lake_tests.benchmarks.measuring import measured
from ddb_lake_tests.benchmarks.peers.shapes import ORDER, SHAPES, columns, export_files, rows_of, size_of


def load_zcat(export: str, _target: str) -> dict[str, Any]:
    """The machine's limit: two `zcat`s side by side, and nothing done with what they give."""
    files = export_files(export)
    with measured() as took:
        halves = [subprocess.Popen(["zcat", *files[n::2]], stdout=subprocess.DEVNULL) for n in range(2)]
        assert [half.wait() for half in halves] == [0, 0]
    return took.figures()


def load_duckdb(export: str, target: str) -> dict[str, Any]:
    """DuckDB's typed read_json straight into zstd Parquet: no checks, no discovery, no order."""
    item, shown = SHAPES.get(Path(export).name.split("-")[1], SHAPES["orders"])
    with duckdb.connect() as con:
        con.execute(
            "SET preserve_insertion_order = false; SET memory_limit = '4GB'"
        )  # of documents, 1 GB is too little
        read = f"read_json({export_files(export)}, format = 'newline_delimited', columns = {{'Item': '{item}'}})"
        with measured() as took:
            con.execute(f"COPY (SELECT {shown} FROM {read}) TO '{target}.parquet' (FORMAT parquet, COMPRESSION zstd)")
    return took.figures(rows_of(f"'{target}.parquet'"), Path(f"{target}.parquet").stat().st_size)


def load_pyarrow(export: str, target: str) -> dict[str, Any]:
    """pyarrow.json, a file at a time (it infers the types), into zstd Parquet of nested columns."""
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    place = _emptied(f"{target}.arrow")
    with measured() as took:
        for number, file in enumerate(export_files(export)):
            table = pj.read_json(file, pj.ReadOptions(block_size=16 << 20))
            pq.write_table(table, f"{place}/{number}.parquet", compression="zstd")
    return took.figures(rows_of(f"(SELECT {columns('Item')} FROM '{place}/*.parquet')"), size_of(place))


def load_boto3(export: str, target: str) -> dict[str, Any]:
    """boto3's TypeDeserializer and pandas, which most scripts use, a file at a time."""
    import pandas as pd
    from boto3.dynamodb.types import TypeDeserializer

    deserialize, place = TypeDeserializer().deserialize, _emptied(f"{target}.boto3")
    with measured() as took:
        for number, file in enumerate(export_files(export)):
            with gzip.open(file) as lines:
                items = [deserialize({"M": json.loads(line)["Item"]}) for line in lines]
            frame = pd.json_normalize(items, sep="__").drop(columns=["lines"])
            frame["tags"] = frame["tags"].map(sorted)
            frame.to_parquet(f"{place}/{number}.parquet", compression="zstd")
    return took.figures(rows_of(f"'{place}/*.parquet'"), size_of(place))


def load_daft(export: str, target: str) -> dict[str, Any]:
    """Daft's own reader and writer (it infers the types)."""
    import daft

    place = _emptied(f"{target}.daft")
    wanted = {"customer": "S", "order_id": "S", "status": "S", "total": "N", "quantity": "N", "created_at": "S"}
    with measured() as took:
        frame = daft.read_json(export_files(export))
        item = frame["Item"]
        chosen = [item.get(name).get(tag).alias(name) for name, tag in wanted.items()]
        frame.select(*chosen, item.get("address"), item.get("tags"), item.get("lines")).write_parquet(place)
    return took.figures(rows_of(f"'{place}/*.parquet'"), size_of(place))


def load_spark(export: str, target: str) -> dict[str, Any]:
    """Spark's from_json with the types given, on as many threads as there are processors; its start is not counted."""
    from ddb_lake_tests.benchmarks.peers.spark import spark_session, spark_type

    place, spark = _emptied(f"{target}.spark"), spark_session()
    with measured() as took:
        items = spark.read.text(export_files(export)).selectExpr(
            f"from_json(value, 'Item {spark_type(ORDER)}') AS line"
        )
        flat = items.selectExpr(*columns("line.Item").split(", "))
        flat.write.mode("overwrite").option("compression", "zstd").parquet(place)
    spark.stop()
    return took.figures(rows_of(f"'{place}/*.parquet'"), size_of(place))


def _emptied(folder: str) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir()
    return folder
