"""Two relations of the same items compared without holding either: by hashes of buckets, then of keys.

Each side is reduced once to (key hash, row hash) on disk, 16 bytes a row before compression. Buckets whose counts and
hashes agree are equal; only keys of the others are joined, a bounded number at a time. Row hashes are DuckDB's own:
both sides are hashed by one process, and nothing of them outlives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddb_lake.core.schema import Column, TableSchema
from ddb_lake.engine.connection import Session
from ddb_lake.engine.sql import carried, literal

BUCKET_BITS = 12
JOINED_ROWS = 20_000_000
"""Rows of both sides that are joined at once."""


def row_hash_sql(schema: TableSchema) -> str:
    """SQL of a 64-bit hash of a projected row: its columns and `_rescued`.

    Equal hashes mean equal items. Equal items can have different hashes (members of a nested set in another order,
    a value rescued on one side and in its column on the other): those are compared as items afterwards.
    """
    parts = [_ordered(column) for column in schema.columns]
    rescued = (
        "CASE WHEN _rescued IS NOT NULL THEN list_sort(map_entries(from_json(_rescued, '\"MAP(VARCHAR, JSON)\"'))) END"
    )
    return f"hash({', '.join([*parts, rescued])})"


def _ordered(column: Column) -> str:
    """A set's order means nothing."""
    name = carried(column.name)
    return f"list_sort({name})" if column.type.startswith("list<") else name


def reduce_rows(session: Session, rows: str, schema: TableSchema, target: Path, extra: Sequence[str] = ()) -> None:
    """Write (k, h, extra…) of projected rows that have a `_key_hash`; `extra`: SQL of more columns."""
    columns = ["_key_hash AS k", f"{row_hash_sql(schema)} AS h", *extra]
    session.con.execute(
        f"COPY (SELECT {', '.join(columns)} FROM {rows}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION lz4)"
    )


def find_differing(session: Session, left: Path, right: Path) -> int:
    """Make the table `differing` (_key_hash): of the rows that are not the same on both sides. Gives their number."""
    session.con.execute("CREATE OR REPLACE TABLE differing (_key_hash BIGINT)")
    shift = 63 - BUCKET_BITS
    buckets = f"SELECT k >> {shift} AS b, count(*) AS n, bit_xor(hash(k, h)) AS x FROM read_parquet({{}}) GROUP BY ALL"
    unequal = session.rows(
        "SELECT coalesce(l.b, r.b), coalesce(l.n, 0) + coalesce(r.n, 0)"
        f" FROM ({buckets.format(literal(str(left)))}) l FULL JOIN ({buckets.format(literal(str(right)))}) r ON l.b = r.b"
        " WHERE l.n IS DISTINCT FROM r.n OR l.x IS DISTINCT FROM r.x ORDER BY 1"
    )
    for chosen in _chunks(unequal):
        sides = [
            "SELECT k, count(*) AS n, bit_xor(hash(k, h)) AS x, sum(h::HUGEINT) AS s"
            f" FROM read_parquet({literal(str(path))}) WHERE k >> {shift} IN ({', '.join(map(str, chosen))}) GROUP BY k"
            for path in (left, right)
        ]
        session.con.execute(
            f"INSERT INTO differing SELECT coalesce(l.k, r.k) FROM ({sides[0]}) l FULL JOIN ({sides[1]}) r ON l.k = r.k"
            " WHERE l.n IS DISTINCT FROM r.n OR l.x IS DISTINCT FROM r.x OR l.s IS DISTINCT FROM r.s"
        )
    found: int = session.value("SELECT count(*) FROM differing")
    return found


def _chunks(buckets: Sequence[tuple[int, int]]) -> list[list[int]]:
    chunks: list[list[int]] = []
    room = 0
    for bucket, rows in buckets:
        if not chunks or rows > room:
            chunks.append([])
            room = JOINED_ROWS
        chunks[-1].append(bucket)
        room -= rows
    return chunks


def document_key_sql(key: Sequence[str], member: str, document: str = "item") -> str:
    """SQL of `_key` over an item's JSON text below `member` of a document: what `keytext` makes of columns."""
    return " || ".join(_document_part(name, member, document) for name in key)


def _document_part(name: str, member: str, document: str) -> str:
    pieces = []
    for tag in ("S", "N", "B"):
        pointer = f"/{member}/{name.replace('~', '~0').replace('/', '~1')}/{tag}"
        text = f"json_extract_string({document}, {literal(pointer)})"
        if tag == "N":
            plain = f"regexp_full_match({text}, '0|-?[1-9][0-9]{{0,17}}')"
            text = f"CASE WHEN {plain} THEN {text} ELSE ddb_canonical_number({text}) END"
        elif tag == "B":
            text = f"to_base64(from_base64({text}))"
        pieces.append(f"'{tag}' || length({text}) || ':' || {text}")
    return f"coalesce({', '.join(pieces)})"
