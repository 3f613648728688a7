"""The types and columns of the generator's items that peers get, and the rows to compare at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

ORDER = (
    "STRUCT(customer STRUCT(S VARCHAR), order_id STRUCT(S VARCHAR), status STRUCT(S VARCHAR), total STRUCT(N VARCHAR),"
    " quantity STRUCT(N VARCHAR), created_at STRUCT(S VARCHAR), address STRUCT(M STRUCT(street STRUCT(S VARCHAR), city"
    " STRUCT(S VARCHAR), zip STRUCT(S VARCHAR), geo STRUCT(M STRUCT(lat STRUCT(N VARCHAR), lon STRUCT(N VARCHAR))))),"
    " tags STRUCT(SS VARCHAR[]), lines STRUCT(L JSON), gift STRUCT(BOOL BOOLEAN), ttl STRUCT(N VARCHAR), note STRUCT(S VARCHAR))"
)
_PLAIN = "customer STRUCT(S VARCHAR), order_id STRUCT(S VARCHAR), total STRUCT(N VARCHAR), quantity STRUCT(N VARCHAR)"
_SPARSE = [f"a{n} STRUCT({'SN'[n % 2]} VARCHAR)" for n in range(60)]
_KEY_AND_NUMBERS = (
    "Item.customer.S AS customer, Item.order_id.S AS order_id, Item.total.N AS total, Item.quantity.N AS quantity, "
)


def columns(item: str) -> str:
    """The orders' columns, out of a struct of type `ORDER`."""
    paths = {
        "customer": "customer.S", "order_id": "order_id.S", "status": "status.S", "total": "total.N",
        "quantity": "quantity.N", "created_at": "created_at.S", "street": "address.M.street.S",
        "city": "address.M.city.S", "zip": "address.M.zip.S", "lat": "address.M.geo.M.lat.N",
        "lon": "address.M.geo.M.lon.N", "tags": "tags.SS", "lines": "lines.L", "gift": "gift.BOOL", "ttl": "ttl.N",
        "note": "note.S",
    }  # fmt: skip
    return ", ".join(f"{item}.{path} AS {name}" for name, path in paths.items())


SHAPES = {
    "orders": (ORDER, columns("Item")),
    "sparse": (
        f"STRUCT({', '.join([_PLAIN, *_SPARSE])})",
        _KEY_AND_NUMBERS + ", ".join(f"Item.a{n}.{'SN'[n % 2]} AS a{n}" for n in range(60)),
    ),
    "documents": (
        f"STRUCT({_PLAIN}, document STRUCT(M STRUCT(title STRUCT(S VARCHAR), body STRUCT(S VARCHAR))))",
        _KEY_AND_NUMBERS + "Item.document.M.title.S AS title, Item.document.M.body.S AS body",
    ),
}
"""Type and columns of each shape of item."""

ROWS = (
    "count(*), sum(hash(customer, order_id, total::DECIMAL(18,1), quantity::BIGINT)::HUGEINT)::VARCHAR,"
    " sum(quantity::BIGINT)::VARCHAR"
)
"""What is compared of two results: DuckDB's hash of each row's key and numbers, added up.

Not DECIMAL(38,1): from text that takes a hundred times as long, a minute for ten million rows.
"""


def export_files(export: str) -> list[str]:
    """The data files of an export."""
    return sorted(map(str, Path(export).glob("AWSDynamoDB/*/data/*.gz")))


def change_files(landed: str) -> list[str]:
    """Landed change objects."""
    return sorted(map(str, Path(landed).rglob("*.gz")))


def orders_sql(export: str) -> str:
    """The orders of an export, parsed by DuckDB in the order of their keys, as columns that any format can take."""
    read = f"read_json({export_files(export)}, format = 'newline_delimited', columns = {{'Item': '{ORDER}'}})"
    return f"SELECT * REPLACE (lines::VARCHAR AS lines) FROM (SELECT {columns('Item')} FROM {read})"


def newest_sql(landed: str) -> str:
    """The newest image of each changed key, parsed by DuckDB: what the peers merge."""
    shape = f"STRUCT(ApproximateCreationDateTime BIGINT, NewImage {ORDER})"
    read = (
        f"read_json({change_files(landed)}, format = 'newline_delimited',"
        f" columns = {{'eventName': 'VARCHAR', 'dynamodb': '{shape}'}})"
    )
    newest = "QUALIFY row_number() OVER (PARTITION BY customer, order_id ORDER BY changed DESC) = 1"
    inner = f"SELECT {columns('dynamodb.NewImage')}, dynamodb.ApproximateCreationDateTime AS changed FROM {read}"
    return f"SELECT * EXCLUDE (changed) REPLACE (lines::VARCHAR AS lines) FROM ({inner}) {newest}"


def rows_of(source: str) -> tuple[Any, ...]:
    """The rows to compare, of a table or files that a plain DuckDB can read."""
    with duckdb.connect() as con:
        return con.execute(f"SELECT {ROWS} FROM {source}").fetchone() or ()


def size_of(folder: str, pattern: str = "*.parquet") -> int:
    """Bytes of the files at and below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob(pattern))
