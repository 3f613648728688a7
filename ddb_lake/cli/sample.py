"""A small export and change objects of a table `orders`, for a first query without AWS: `ddb-lake init --sample` writes them.

They have what real tables have: maps, sets, numbers of many digits, an attribute of two types, items that were removed, and records
that were delivered twice and out of order. Each call writes the same bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ddb_lake.core.layout.export_manifest import (
    MARKER,
    DataFile,
    ExportSummary,
    build_files,
    build_summary,
    md5_text,
)
from ddb_lake.core.values.time_text import microseconds

TABLE = "orders"
KEY = ("customer", "order_id")
EXPORTS, LANDING = "exports/orders", "landing/orders"
"""Where the export and the change objects are in the folder."""

QUERY = "SELECT status, count(*) AS orders, sum(total) AS total FROM orders GROUP BY ALL ORDER BY 1"

_EXPORTED = datetime(2026, 3, 2, 6, tzinfo=UTC)
_ARN = f"arn:aws:dynamodb:eu-west-1:111122223333:table/{TABLE}"
_EXPORT_ID = f"0{microseconds(_EXPORTED) // 1000}-5a3b1c2d"
_CUSTOMERS = ("ann", "bob", "cec", "dan", "eve", "fay")
_CITIES = (("Oslo", "NO"), ("Porto", "PT"), ("Kyoto", "JP"))
_STATUSES = ("placed", "paid", "shipped")
_TAGS = ("gift", "rush", "fragile")
_ORDERS = 48

Item = dict[str, Any]


def write_sample(folder: Path) -> None:
    """Write the export and the change objects into a folder.

    Raises:
        OSError: the folder cannot be written.
    """
    items = [_order(number) for number in range(_ORDERS)]
    _write_export(folder / EXPORTS, items)
    for hour, records in enumerate(_deliveries(items)):
        arrived = _EXPORTED + timedelta(hours=hour + 1)
        name = f"orders-1-{arrived:%Y-%m-%d-%H-%M-%S}-5a3b1c2d-0000-4000-8000-{hour:012d}.gz"
        path = folder / LANDING / f"{arrived:%Y/%m/%d/%H}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(map(_json, records)).encode(), mtime=0))


def _order(number: int) -> Item:
    city, country = _CITIES[number % 3]
    item: Item = {
        "customer": {"S": _CUSTOMERS[number % 6]},
        "order_id": {"N": str(1001 + number)},
        "status": {"S": _STATUSES[number % 3]},
        "total": {"N": f"{5 + 7 * number}.{number % 4 * 25:02d}".rstrip("0").rstrip(".")},
        "placed_at": {"S": f"{_EXPORTED - timedelta(hours=3 * number):%Y-%m-%dT%H:%M:%SZ}"},
        "address": {"M": {"city": {"S": city}, "country": {"S": country}}},
        "lines": {"L": [{"M": {"sku": {"S": f"sku-{number % 9}"}, "pieces": {"N": str(1 + number % 4)}}}]},
    }
    if number % 4 == 0:
        item["tags"] = {"SS": list(_TAGS[: 1 + number % 3])}
    if number % 12 == 4:
        item["status"] = {"N": str(number % 3)}  # written by an older program
    if number % 12 == 7:
        item["note"] = {"NULL": True}  # no column holds it
    if number % 16 == 3:
        item["weight_kg"] = {"N": "0.12345678901234567890123456789012345678"}
    return item


def _deliveries(items: list[Item]) -> Iterator[list[Item]]:
    """The records of each hour's object."""
    paid = [_change(number, {**items[number], "status": {"S": "paid"}}, items[number]) for number in (0, 3, 6)]
    placed = [_change(number, _order(number)) for number in (_ORDERS, _ORDERS + 1)]
    removed = [_change(number, None, items[number]) for number in (2, 17)]
    yield [*paid, placed[0]]
    yield [placed[1], removed[1], removed[0], placed[0]]  # out of order, and one of them again


def _change(number: int, new: Item | None, old: Item | None = None) -> Item:
    image = new or old or {}
    at_us = microseconds(_EXPORTED + timedelta(minutes=2 * number + 1))
    body: Item = {
        "ApproximateCreationDateTime": at_us,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
        "Keys": {name: image[name] for name in KEY},
        "SizeBytes": len(_json(image)),
    }
    body |= {"NewImage": new} if new else {}
    body |= {"OldImage": old} if old else {}
    return {
        "awsRegion": "eu-west-1",
        "eventID": f"00000000-0000-4000-8000-{number:012d}",
        "eventName": "REMOVE" if new is None else "MODIFY" if old else "INSERT",
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": TABLE,
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }


def _write_export(folder: Path, items: list[Item]) -> None:
    base = f"{MARKER}{_EXPORT_ID}"
    key = f"{base}/data/5a3b1c2dsampleofordersaaaa.json.gz"
    data = gzip.compress("".join(f"{_json({'Item': item})}\n" for item in items).encode(), mtime=0)
    exported_us = microseconds(_EXPORTED)
    summary = ExportSummary(
        export_arn=f"{_ARN}/export/{_EXPORT_ID}",
        table_arn=_ARN,
        table_id="5a3b1c2d-0000-4000-8000-000000000000",
        export_type="FULL",
        start_time_us=exported_us,
        end_time_us=exported_us + 300_000_000,
        export_time_us=exported_us,
        bucket="sample",
        prefix=None,
        manifest_files_key=f"{base}/manifest-files.json",
        item_count=len(items),
        billed_size_bytes=len(data),
    )
    files = build_files([DataFile(key, len(items), md5_text(data))])
    (folder / key).parent.mkdir(parents=True, exist_ok=True)
    (folder / key).write_bytes(data)
    for name, manifest in (("manifest-files", files), ("manifest-summary", build_summary(summary))):
        (folder / base / f"{name}.md5").write_text(md5_text(manifest))
        (folder / base / f"{name}.json").write_bytes(manifest)


def _json(value: Item) -> str:
    return json.dumps(value, separators=(",", ":"))
