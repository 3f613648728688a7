"""Inputs made in DuckDB: an export of realistic orders (about 600 bytes of JSON an item) and change objects."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

EXPORT_US = 1_700_000_000_000_000
EXPORT_ID = "01700000000000-abcd1234"
TABLE = "orders"
KEY = ("customer", "order_id")
LEAST_FILES = 8
MOST_ITEMS = 1_250_000
"""In a file: DynamoDB's exports have many files too."""

OBJECTS = 10
MOST_CHANGES = 10_000
"""In an object, so that a million of them are a hundred objects."""

_ITEM = """'{"customer":{"S":"cust-' || lpad((i % {customers})::VARCHAR, 8, '0') || '"},'
 || '"order_id":{"S":"ord-' || lpad(i::VARCHAR, 12, '0') || '"},'
 || '"status":{"S":"' || ['NEW','PAID','SHIPPED','DONE','RETURNED'][1 + h % 5] || '"},'
 || '"total":{"N":"' || (1 + h % 9999) || '.' || (1 + h % 9) || '"},"quantity":{"N":"' || {quantity} || '"},'
 || '"created_at":{"S":"2023-10-' || lpad((1 + h % 28)::VARCHAR, 2, '0') || 'T10:00:00Z"},'
 || '"address":{"M":{"street":{"S":"Street ' || (h % 9999) || '"},"city":{"S":"City ' || (h % 300) || '"},'
 || '"zip":{"S":"' || lpad((h % 99999)::VARCHAR, 5, '0') || '"},'
 || '"geo":{"M":{"lat":{"N":"' || (h % 90) || '.' || (1 + h % 99999) * 10 + 1 || '"},'
 || '"lon":{"N":"-' || (h % 180) || '.' || (1 + h % 88888) * 10 + 3 || '"}}}}},'
 || '"tags":{"SS":["a' || (h % 7) || '","b' || (h % 5) || '"]},'
 || '"lines":{"L":[{"M":{"sku":{"S":"sku-' || (h % 99999) || '"},"qty":{"N":"' || (1 + h % 9) || '"}}}]},'
 || '"gift":{"BOOL":' || (h % 3 = 0) || '},"ttl":{"N":"' || (1790000000 + h % 9999999) || '"}'
 || CASE WHEN h % 5 = 0 THEN ',"note":{"S":"please deliver to the back door, parcel ' || i || '"}' ELSE '' END || '}'"""


_PLAIN = """'{"customer":{"S":"cust-' || lpad((i % {customers})::VARCHAR, 8, '0') || '"},'
 || '"order_id":{"S":"ord-' || lpad(i::VARCHAR, 12, '0') || '"},"total":{"N":"' || (1 + h % 9999) || '.' || (1 + h % 9) || '"},'
 || '"quantity":{"N":"' || {quantity} || '"}'"""

_SPARSE = "".join(
    f""" || CASE WHEN (h + {7 * n}) % 5 = 0 THEN ',"a{n}":{{"{"SN"[n % 2]}":"' || (h % {97 + n}) || '"}}' ELSE '' END"""
    for n in range(60)
)
_DOCUMENT = """ || ',"document":{"M":{"title":{"S":"Document ' || i || '"},"body":{"S":"'
 || repeat(md5(i::VARCHAR) || ' ' || md5(h::VARCHAR) || ' ', {times}) || '"}}}'"""

_DENSE = """ || ',"body":{"S":"'
 || array_to_string(list_transform(range(1875), lambda x: md5((h * 10000 + x)::VARCHAR)), '') || '"}'"""

SHAPES = {
    "orders": _ITEM,
    "sparse": f"{_PLAIN}{_SPARSE} || '}}'",
    "documents": f"{_PLAIN}{_DOCUMENT} || '}}'".replace("{times}", "300"),
    "large": f"{_PLAIN}{_DOCUMENT} || '}}'".replace("{times}", "6000"),
    "dense": f"{_PLAIN}{_DENSE} || '}}'",
}
"""Items of an export. orders: 600 bytes, nested. sparse: a fifth of 60 attributes. documents: 20 KB. large: nearly 400 KB.
dense: 60 KB that hardly compress."""


def _item(customers: int, quantity: str, shape: str = "orders") -> str:
    return SHAPES[shape].replace("{customers}", str(customers)).replace("{quantity}", quantity)


def make_export(folder: Path, items: int, shape: str = "orders") -> Path:
    """A full export of so many items of a shape in eight gz files or more; gives the folder to load. Made once."""
    kind = "" if shape == "orders" else f"{shape}-"
    root = folder / f"export-{kind}{items}" / "AWSDynamoDB" / EXPORT_ID
    if not (root / "manifest-summary.json").exists():
        (root / "data").mkdir(parents=True, exist_ok=True)
        files = max(LEAST_FILES, items // MOST_ITEMS)
        share = items // files
        line = f"'{{\"Item\":' || {_item(items // 10, '(1 + h % 19)', shape)} || '}}'"
        writes = []
        for number in range(files):
            rows = (
                f"SELECT i, (hash(i) % 1000000)::BIGINT AS h FROM range({number * share}, {(number + 1) * share}) t(i)"
            )
            writes.append((f"SELECT {line} FROM ({rows})", root / "data" / f"{number:03d}.json.gz"))
        _write_all(writes)
        _write_manifests(root, share, files)
    return root.parent.parent


def make_changes(
    folder: Path, items: int, changes: int, batch: int, *, local: bool = False, objects: int = 0, shape: str = "orders"
) -> Path:
    """Landed KDS objects with `changes` MODIFY records of random orders of the export; gives their folder.

    `local`: only of the last fiftieth of the orders. `objects`: how many; ten by default, and more for many changes.
    `shape`: of the export's items.
    """
    kind = ("-local" if local else "") + (f"-{objects}" if objects else "") + ("" if shape == "orders" else f"-{shape}")
    objects = objects or max(OBJECTS, changes // MOST_CHANGES)
    target = folder / f"changes-{items}-{changes}-{batch}{kind}" / "2023/11/15/00"
    if not target.exists():
        made = target.with_name("making")
        made.mkdir(parents=True, exist_ok=True)
        old, new = _item(items // 10, "(1 + h % 19)", shape), _item(items // 10, f"(100 + {batch})", shape)
        record = _record(f"({EXPORT_US + batch * 10**9} + n)")
        per_object = max(1, changes // objects)
        spread = max(1, items // 50) if local else items
        writes = []
        for first in range(0, changes, per_object):
            order = f"({items - spread} + hash(n + {batch * 10**7}) % {spread})::BIGINT"
            numbers = f"range({first}, {min(first + per_object, changes)}) t(n)"
            rows = f"SELECT n, i, (hash(i) % 1000000)::BIGINT AS h FROM (SELECT n, {order} AS i FROM {numbers})"
            images = f"SELECT n, {old} AS o, {new} AS w FROM ({rows})"
            writes.append((f"SELECT {record} FROM ({images})", made / f"stream-1-2023-11-15-00-00-00-{first:08d}.gz"))
        _write_all(writes)
        made.rename(target)
    return target.parents[3]


def make_trails(folder: Path, items: int, versions: int) -> Path:
    """Landed KDS objects with `versions` changes of each order, an hour apart, each from the image of the one before."""
    target = folder / f"trails-{items}-{versions}" / "2023/11/15/00"
    if not target.exists():
        made = target.with_name("making")
        made.mkdir(parents=True, exist_ok=True)
        old, new = _item(items // 10 or 1, "v"), _item(items // 10 or 1, "(v + 1)")
        writes = []
        for first in range(0, items * versions, MOST_CHANGES):
            numbers = f"range({first}, {min(first + MOST_CHANGES, items * versions)}) t(n)"
            rows = f"SELECT n, n % {items} AS i, n // {items} AS v, (hash(n % {items}) % 1000000)::BIGINT AS h FROM {numbers}"
            images = f"SELECT n, v, {old} AS o, {new} AS w FROM ({rows})"
            record = _record(f"({EXPORT_US} + v * 3600000000 + n)")
            writes.append((f"SELECT {record} FROM ({images})", made / f"stream-1-2023-11-15-00-00-00-{first:08d}.gz"))
        _write_all(writes)
        made.rename(target)
    return target.parents[3]


def _record(time_us: str) -> str:
    """SQL of a KDS record from the images `o` and `w`."""
    keys = 'regexp_extract(o, \'^\\{("customer".*?\\},"order_id".*?\\}),\', 1)'
    return (
        '\'{"awsRegion":"eu-west-1","eventID":"\' || uuid() || \'","eventName":"MODIFY","userIdentity":null,'
        '"recordFormat":"application/json","tableName":"orders","dynamodb":{"ApproximateCreationDateTime":\' || '
        f"{time_us} || ',\"Keys\":{{' || {keys} || '}},\"NewImage\":' || w || ',\"OldImage\":' || o ||"
        '\',"SizeBytes":900,"ApproximateCreationDateTimePrecision":"MICROSECOND"},"eventSource":"aws:dynamodb"}\''
    )


def _write_all(writes: Sequence[tuple[str, Path]]) -> None:
    """Queries into gz files of lines, one a processor at a time: gzip takes most of the time, and one thread."""
    with duckdb.connect(config={"threads": 1}) as con, ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda write: _write_lines(con.cursor(), *write), writes))


def _write_lines(con: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    con.execute(
        f"COPY ({query}) TO '{path}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01', COMPRESSION gzip)"
    )


def _write_manifests(root: Path, share: int, files: int) -> None:
    entries = []
    for path in sorted((root / "data").iterdir()):
        checksum = base64.b64encode(hashlib.md5(path.read_bytes(), usedforsecurity=False).digest()).decode()
        key = f"AWSDynamoDB/{EXPORT_ID}/data/{path.name}"
        entries.append({"itemCount": share, "md5Checksum": checksum, "etag": "0-1", "dataFileS3Key": key})
    (root / "manifest-files.json").write_text("".join(json.dumps(e) + "\n" for e in entries))
    arn = f"arn:aws:dynamodb:eu-west-1:111122223333:table/{TABLE}"
    summary = {
        "version": "2020-06-30",
        "exportArn": f"{arn}/export/{EXPORT_ID}",
        "startTime": "2023-11-14T22:13:20.000Z",
        "endTime": "2023-11-14T22:23:20.000Z",
        "tableArn": arn,
        "tableId": "00000000-0000-0000-0000-000000000000",
        "exportTime": "2023-11-14T22:13:20.000Z",
        "s3Bucket": "bucket",
        "s3Prefix": None,
        "s3SseAlgorithm": "AES256",
        "s3SseKmsKeyId": None,
        "manifestFilesS3Key": f"AWSDynamoDB/{EXPORT_ID}/manifest-files.json",
        "billedSizeBytes": share * files * 600,
        "itemCount": share * files,
        "outputFormat": "DYNAMODB_JSON",
    }
    (root / "manifest-summary.json").write_text(json.dumps(summary))
