"""What we are measured against, each doing the job of a load or an apply its own best way. Gives rows to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ddb_lake_tests.benchmarks.peers import apply, iceberg, load, spark

BARE = "DuckDB typed read_json"
NATIVE = "DuckDB native MERGE INTO"
DELTA = "delta-rs merge"
SPARK_LOAD = "Spark local[2] from_json"
BOTO3 = "boto3 + pandas"


@dataclass(frozen=True, slots=True)
class ApplyPeer:
    """A peer of apply. `quick`: it takes part in every repeat, the others in the first alone.

    `most_rows`: of the largest table that it is tried on.
    """

    prepare: Callable[[str, str], None]
    apply: Callable[[str, str], dict[str, Any]]
    quick: bool = False
    most_rows: int | None = None


LOADS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "zcat, two processes": load.load_zcat,
    BARE: load.load_duckdb,
    "pyarrow.json": load.load_pyarrow,
    "Daft": load.load_daft,
    SPARK_LOAD: load.load_spark,
    BOTO3: load.load_boto3,
}
APPLIES = {
    NATIVE: ApplyPeer(apply.prepare_native, apply.apply_native, quick=True),
    "DuckDB iceberg extension MERGE": ApplyPeer(iceberg.prepare_extension, iceberg.apply_extension, quick=True),
    "DuckDB full rewrite": ApplyPeer(apply.prepare_rewrite, apply.apply_rewrite),
    DELTA: ApplyPeer(apply.prepare_delta, apply.apply_delta, most_rows=10_000_000),
    "pyiceberg overwrite": ApplyPeer(iceberg.prepare_pyiceberg, iceberg.apply_pyiceberg, most_rows=10_000_000),
    "Spark anti-join, rewrite": ApplyPeer(spark.prepare_spark, spark.apply_spark, most_rows=10_000_000),
}
