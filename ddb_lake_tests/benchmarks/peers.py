"""What we are measured against, each doing the job of a load or an apply its own best way. Gives rows to compare.

None of them verifies manifests, discovers a schema, keeps odd values, or commits to Iceberg; they parse the columns of
the generator's orders, which they are told.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

TYPED = (
    "STRUCT(customer STRUCT(S VARCHAR), order_id STRUCT(S VARCHAR), status STRUCT(S VARCHAR), total STRUCT(N VARCHAR),"
    " quantity STRUCT(N VARCHAR), created_at STRUCT(S VARCHAR), address STRUCT(M STRUCT(street STRUCT(S VARCHAR), city"
    " STRUCT(S VARCHAR), zip STRUCT(S VARCHAR), geo STRUCT(M STRUCT(lat STRUCT(N VARCHAR), lon STRUCT(N VARCHAR))))),"
    " tags STRUCT(SS VARCHAR[]), lines STRUCT(L JSON), gift STRUCT(BOOL BOOLEAN), ttl STRUCT(N VARCHAR), note STRUCT(S VARCHAR))"
)


_PLAIN = "customer STRUCT(S VARCHAR), order_id STRUCT(S VARCHAR), total STRUCT(N VARCHAR), quantity STRUCT(N VARCHAR)"
_SPARSE = [f"a{n} STRUCT({'SN'[n % 2]} VARCHAR)" for n in range(60)]
_OTHERS = {
    "sparse": (
        f"STRUCT({', '.join([_PLAIN, *_SPARSE])})",
        "Item.customer.S AS customer, Item.order_id.S AS order_id, Item.total.N AS total, Item.quantity.N AS quantity, "
        + ", ".join(f"Item.a{n}.{'SN'[n % 2]} AS a{n}" for n in range(60)),
    ),
    "documents": (
        f"STRUCT({_PLAIN}, document STRUCT(M STRUCT(title STRUCT(S VARCHAR), body STRUCT(S VARCHAR))))",
        "Item.customer.S AS customer, Item.order_id.S AS order_id, Item.total.N AS total, Item.quantity.N AS quantity,"
        " Item.document.M.title.S AS title, Item.document.M.body.S AS body",
    ),
}
"""Type and columns of the other shapes' items."""


def columns(item: str) -> str:
    """The orders' columns, out of a struct of type `TYPED`."""
    paths = {
        "customer": "customer.S", "order_id": "order_id.S", "status": "status.S", "total": "total.N",
        "quantity": "quantity.N", "created_at": "created_at.S", "street": "address.M.street.S",
        "city": "address.M.city.S", "zip": "address.M.zip.S", "lat": "address.M.geo.M.lat.N",
        "lon": "address.M.geo.M.lon.N", "tags": "tags.SS", "lines": "lines.L", "gift": "gift.BOOL", "ttl": "ttl.N",
        "note": "note.S",
    }  # fmt: skip
    return ", ".join(f"{item}.{path} AS {name}" for name, path in paths.items())


ROWS = "count(*), count(DISTINCT order_id), sum(total::DECIMAL(38,1)), sum(quantity::BIGINT)"
"""What is compared of two results."""


def export_files(export: str) -> list[str]:
    """The data files of an export."""
    return sorted(map(str, Path(export).glob("AWSDynamoDB/*/data/*.gz")))


def change_files(landed: str) -> list[str]:
    """Landed change objects."""
    return sorted(map(str, Path(landed).rglob("*.gz")))


def _timed(started: float, rows: Any, size: int) -> dict[str, Any]:
    return {"seconds": time.monotonic() - started, "rows": [str(value) for value in rows], "bytes": size}


def _parquet(path: str, seconds: float) -> dict[str, Any]:
    rows = duckdb.execute(f"SELECT {ROWS} FROM '{path}'").fetchone() or ()
    size = sum(file.stat().st_size for file in Path(path).parent.glob(Path(path).name))
    return {"seconds": seconds, "rows": [str(value) for value in rows], "bytes": size}


# --- full load


def load_zcat(export: str, _target: str) -> dict[str, Any]:
    """The machine's limit: two `zcat`s side by side, and nothing done with what they give."""
    files = export_files(export)
    started = time.monotonic()
    halves = [subprocess.Popen(["zcat", *files[n::2]], stdout=subprocess.DEVNULL) for n in range(2)]
    assert [half.wait() for half in halves] == [0, 0]
    return _timed(started, (), 0)


def load_duckdb(export: str, target: str) -> dict[str, Any]:
    """DuckDB's typed read_json straight into zstd Parquet: no checks, no discovery, no order."""
    with duckdb.connect() as con:
        con.execute(
            "SET preserve_insertion_order = false; SET memory_limit = '4GB'"
        )  # of documents, 1 GB is too little
        shape = Path(export).name.split("-")[1]
        item, shown = _OTHERS.get(shape, (TYPED, columns("Item")))
        read = f"read_json({export_files(export)}, format = 'newline_delimited', columns = {{'Item': '{item}'}})"
        started = time.monotonic()
        con.execute(f"COPY (SELECT {shown} FROM {read}) TO '{target}.parquet' (FORMAT parquet, COMPRESSION zstd)")
        seconds = time.monotonic() - started
    return _parquet(f"{target}.parquet", seconds)


def load_pyarrow(export: str, target: str) -> dict[str, Any]:
    """pyarrow.json, a file at a time (it infers the types), into zstd Parquet of nested columns."""
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    shutil.rmtree(f"{target}.arrow", ignore_errors=True)
    Path(f"{target}.arrow").mkdir()
    started = time.monotonic()
    for number, file in enumerate(export_files(export)):
        table = pj.read_json(file, pj.ReadOptions(block_size=16 << 20))
        pq.write_table(table, f"{target}.arrow/{number}.parquet", compression="zstd")
    seconds = time.monotonic() - started
    flat = f"(SELECT {columns('Item')} FROM '{target}.arrow/*.parquet')"
    found = duckdb.execute(f"SELECT {ROWS} FROM {flat}").fetchone() or ()
    size = sum(path.stat().st_size for path in Path(f"{target}.arrow").iterdir())
    return {"seconds": seconds, "rows": [str(value) for value in found], "bytes": size}


def load_boto3(export: str, target: str) -> dict[str, Any]:
    """boto3's TypeDeserializer and pandas, which most scripts use, a file at a time."""
    import pandas as pd
    from boto3.dynamodb.types import TypeDeserializer

    deserialize = TypeDeserializer().deserialize
    shutil.rmtree(f"{target}.boto3", ignore_errors=True)
    Path(f"{target}.boto3").mkdir()
    started = time.monotonic()
    for number, file in enumerate(export_files(export)):
        with gzip.open(file) as lines:
            items = [deserialize({"M": json.loads(line)["Item"]}) for line in lines]
        frame = pd.json_normalize(items, sep="__").drop(columns=["lines"])
        frame["tags"] = frame["tags"].map(sorted)
        frame.to_parquet(f"{target}.boto3/{number}.parquet", compression="zstd")
    return _parquet(f"{target}.boto3/*.parquet", time.monotonic() - started)


def load_daft(export: str, target: str) -> dict[str, Any]:
    """Daft's own reader and writer (it infers the types)."""
    import daft

    shutil.rmtree(f"{target}.daft", ignore_errors=True)
    started = time.monotonic()
    frame = daft.read_json(export_files(export))
    item = frame["Item"]
    wanted = {"customer": "S", "order_id": "S", "status": "S", "total": "N", "quantity": "N", "created_at": "S"}
    chosen = [item.get(name).get(tag).alias(name) for name, tag in wanted.items()]
    frame.select(*chosen, item.get("address"), item.get("tags"), item.get("lines")).write_parquet(f"{target}.daft")
    return _parquet(f"{target}.daft/*.parquet", time.monotonic() - started)


def load_spark(export: str, target: str) -> dict[str, Any]:
    """Spark's from_json with the types given, on as many threads as there are processors; its start is not counted."""
    from pyspark.sql import SparkSession

    session: Any = SparkSession.builder
    spark = (
        session.master("local[2]").config("spark.driver.memory", "2g").config("spark.ui.enabled", "false").getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    shape = _spark_type(TYPED)
    started = time.monotonic()
    items = spark.read.text(export_files(export)).selectExpr(f"from_json(value, 'Item {shape}') AS line")
    flat = items.selectExpr(*[part.strip() for part in columns("line.Item").split(", ")])
    flat.write.mode("overwrite").option("compression", "zstd").parquet(f"{target}.spark")
    seconds = time.monotonic() - started
    spark.stop()
    return _parquet(f"{target}.spark/*.parquet", seconds)


def _spark_type(shape: str) -> str:
    text = shape.replace("VARCHAR[]", "ARRAY<STRING>").replace("VARCHAR", "STRING").replace("JSON", "STRING")
    return text.replace("STRUCT(", "STRUCT<").replace(")", ">")


# --- applying changes


def _newest_sql(landed: str) -> str:
    """The newest image of each changed key, parsed by DuckDB: what the peers merge."""
    shape = f"STRUCT(ApproximateCreationDateTime BIGINT, NewImage {TYPED})"
    read = (
        f"read_json({change_files(landed)}, format = 'newline_delimited',"
        f" columns = {{'eventName': 'VARCHAR', 'dynamodb': '{shape}'}})"
    )
    newest = "QUALIFY row_number() OVER (PARTITION BY customer, order_id ORDER BY changed DESC) = 1"
    inner = f"SELECT {columns('dynamodb.NewImage')}, dynamodb.ApproximateCreationDateTime AS changed FROM {read}"
    return f"SELECT * EXCLUDE (changed) FROM ({inner}) {newest}"


def prepare_native(export: str, folder: str) -> None:
    """A DuckDB table of the export's orders."""
    Path(f"{folder}/native.duckdb").unlink(missing_ok=True)
    with duckdb.connect(f"{folder}/native.duckdb") as con:
        con.execute("SET preserve_insertion_order = false; SET memory_limit = '4GB'")
        read = f"read_json({export_files(export)}, format = 'newline_delimited', columns = {{'Item': '{TYPED}'}})"
        con.execute(f"CREATE TABLE orders AS SELECT {columns('Item')} FROM {read}")


def apply_native(landed: str, folder: str) -> dict[str, Any]:
    """DuckDB's MERGE INTO its own table. The file is its alone: no other engine reads it."""
    path = Path(f"{folder}/native.duckdb")
    before = path.stat().st_size
    with duckdb.connect(str(path)) as con:
        started = time.monotonic()
        con.execute(
            f"MERGE INTO orders t USING ({_newest_sql(landed)}) s ON t.customer = s.customer AND t.order_id = s.order_id"
            " WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT"
        )
        con.execute("CHECKPOINT")
        seconds = time.monotonic() - started
        rows = con.execute(f"SELECT {ROWS} FROM orders").fetchone() or ()
    return {"seconds": seconds, "rows": [str(v) for v in rows], "bytes": max(0, path.stat().st_size - before)}


def prepare_delta(export: str, folder: str) -> None:
    """A Delta table of the export's orders, written in batches."""
    from deltalake import write_deltalake

    with duckdb.connect() as con:
        con.execute("SET preserve_insertion_order = false; SET memory_limit = '1GB'")
        read = f"read_json({export_files(export)}, format = 'newline_delimited', columns = {{'Item': '{TYPED}'}})"
        batches = con.execute(f"SELECT {columns('Item')} FROM {read}").to_arrow_reader(100_000)
        write_deltalake(f"{folder}/delta", batches, mode="overwrite")


def apply_delta(landed: str, folder: str) -> dict[str, Any]:
    """delta-rs' merge, from rows that DuckDB parsed."""
    from deltalake import DeltaTable

    path = f"{folder}/delta"
    before = sum(file.stat().st_size for file in Path(path).rglob("*.parquet"))
    with duckdb.connect() as con:
        started = time.monotonic()
        source = con.execute(_newest_sql(landed)).to_arrow_table()
        merge = DeltaTable(path).merge(
            source, "t.customer = s.customer AND t.order_id = s.order_id", source_alias="s", target_alias="t"
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()
        seconds = time.monotonic() - started
        live = DeltaTable(path).file_uris()
        rows = con.execute(f"SELECT {ROWS} FROM read_parquet({live})").fetchone() or ()
    after = sum(file.stat().st_size for file in Path(path).rglob("*.parquet"))
    return {"seconds": seconds, "rows": [str(value) for value in rows], "bytes": after - before}


def apply_rewrite(landed: str, folder: str) -> dict[str, Any]:
    """The anti-join that rewrites the whole table, which most lake scripts do."""
    base, target = f"{folder}/rewrite.parquet", f"{folder}/rewritten.parquet"
    with duckdb.connect() as con:
        con.execute("SET preserve_insertion_order = false; SET memory_limit = '1GB'")
        started = time.monotonic()
        con.execute(f"CREATE TEMP TABLE newest AS {_newest_sql(landed)}")
        kept = f"SELECT b.* FROM '{base}' b ANTI JOIN newest n ON b.customer = n.customer AND b.order_id = n.order_id"
        con.execute(f"COPY ({kept} UNION ALL FROM newest) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        Path(target).rename(base)
        seconds = time.monotonic() - started
    return _parquet(base, seconds)


def prepare_rewrite(export: str, folder: str) -> None:
    """A Parquet file of the export's orders."""
    load_duckdb(export, f"{folder}/rewrite")


LOADS = {
    "zcat, two processes": load_zcat,
    "DuckDB typed read_json": load_duckdb,
    "pyarrow.json": load_pyarrow,
    "Daft": load_daft,
    "Spark local[2] from_json": load_spark,
    "boto3 + pandas": load_boto3,
}
APPLIES = {
    "DuckDB native MERGE INTO": (prepare_native, apply_native),
    "DuckDB full rewrite": (prepare_rewrite, apply_rewrite),
    "delta-rs merge": (prepare_delta, apply_delta),
}


def names() -> Iterator[str]:
    """All peers."""
    yield from LOADS
    yield from APPLIES
