"""Compares two relations of items in bounded memory: by hashes of buckets, then by hashes of keys.

One side is the text of an export's lines, the other the lines that `dump` writes for the lake's rows. No line is projected
here, and lines are read by `ddb_lake.core.verify.equality` alone: a fault of the projection cannot make both sides equal.

Each side is reduced to (key hash, row hash) on disk, 16 bytes a row before compression. Buckets with the same count and hash
are equal. The keys of the other buckets are joined, a bounded number of rows at a time. The hashes are DuckDB's own, which
may differ between its versions, so they are not kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ddb_lake.core.decode.export_lines import ITEM_MEMBER
from ddb_lake.core.schema.table_schema import Path as MemberPath
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.core.verify.equality import canonical_number, fingerprint
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal, literals

BUCKET_BITS = 12
JOINED_ROWS = 20_000_000
"""Rows of both sides that are joined at the same time."""


MOST_REORDERED = 200
"""The most columns with which lines are reordered in SQL. It looks each of them up in each line."""

_SLICE_ROWS = 64
"""Texts that Python holds at the same time, beside those of DuckDB."""


def register_functions(con: Any) -> None:
    """Create the functions that the SQL of this module calls, unless the connection has them."""
    if con.execute("FROM duckdb_functions() WHERE function_name = 'ddb_fingerprint'").fetchall():
        return
    con.create_function("ddb_fingerprint", _fingerprints, ["VARCHAR"], "BIGINT", type="arrow")
    con.create_function(
        "ddb_dumped_fingerprint",
        _dumped_fingerprints,
        ["VARCHAR", "VARCHAR"],
        "BIGINT",
        type="arrow",
        null_handling="special",
    )
    con.create_function("ddb_completed", _completed, ["VARCHAR", "VARCHAR"], "VARCHAR", null_handling="special")
    con.create_function("ddb_plain_number", _plain_number, ["VARCHAR"], "VARCHAR", null_handling="special")


def dumped_item_sql(item: str) -> str:
    """SQL of the item that `dump` writes for a row. `item`: SQL of `engine.inverse_projection.item_sql`."""
    return f"ddb_completed({item}, _rescued)"


def text_hash_sql(schema: TableSchema) -> str:
    """SQL of a hash of the line that `dump` writes for a row. A row with rescued values gets a hash that no line has."""
    return f"""hash(concat('{{"{ITEM_MEMBER}":', {item_sql(schema)}, '}}', _rescued))"""


def dumped_fingerprint_sql(schema: TableSchema) -> str:
    """SQL of `equality.fingerprint` of the line that `dump` writes for a row."""
    return f"ddb_dumped_fingerprint({item_sql(schema)}, _rescued)"


def reordered_sql(key: Sequence[str], order: Sequence[MemberPath], lines: str) -> str:
    """A relation of lines with `_key`, and `reordered`: the text of `item` with the members of maps in a given order.

    The texts of the members do not change. A line with other contents (an unknown member, a name that occurs twice) is left
    as it is.

    Args:
        key: the key attributes.
        order: the paths of members; a map comes before its members.
        lines: a relation with `item`, the text of a line.
    """
    maps = {path[:-1] for path in order} - {()}
    leaves = {path: f"_members[{i}]" for i, path in enumerate((p for p in order if p not in maps), 1)}
    inner = {path: f"_names[{2 + 2 * i}]" for i, path in enumerate(sorted(maps), 1)}
    pointers = [_pointer(path) for path in leaves]
    outer = [""] + [f"/{ITEM_MEMBER}"] + [p for path in sorted(maps) for p in (_pointer(path), _pointer(path) + "/M")]
    found = f"json_extract(item, {literals(pointers)}) AS _members, json_keys(item, {literals(outer)}) AS _names"

    def text(above: MemberPath) -> str:
        pieces = []
        for path in order:
            if path[:-1] != above or not path:
                continue
            name = json.dumps(path[-1]) + ":"
            if path in maps:
                body = f"CASE WHEN {inner[path]} IS NOT NULL THEN {text(path)} END"
                pieces.append(f"""{literal(name + '{"M":{')} || {body} || '}}}}'""")
            else:
                pieces.append(f"{literal(name)} || {leaves[path]}")
        return f"concat_ws(',', {', '.join(pieces)})"

    # Each map has at least the names that are found in it. If the sums are equal, no map has more.
    names = " + ".join(f"coalesce(len(_names[{i}]), 0)" for i in range(1, len(outer) + 1))
    existing = " + ".join(["0", *(f"2 * ({names_of} IS NOT NULL)::INTEGER" for names_of in inner.values())])
    whole = f"{names} = 1 + list_count(_members) + {existing}"
    line = f"""'{{"{ITEM_MEMBER}":{{' || {text(())} || '}}}}'"""
    keys = " || ".join(_key_part(leaves[(name,)], "") for name in key)
    return (
        f"(SELECT *, {keys} AS _key, CASE WHEN {whole} THEN {line} ELSE item END AS reordered"
        f" FROM (SELECT *, {found} FROM {lines}))"
    )


def fingerprint_sql(line: str) -> str:
    """SQL of `equality.fingerprint`: equal for lines that are the same but for the order of members."""
    return f"ddb_fingerprint({line})"


def write_hashes(session: Session, rows: str, row_hash: str, target: Path, extra: Sequence[str] = ()) -> None:
    """Write a Parquet file (k, h, extra…) of rows with a `_key_hash`: k.

    Args:
        session: the session of the rows.
        rows: the relation.
        row_hash: SQL of h.
        target: the file.
        extra: SQL of further columns.
    """
    columns = ["_key_hash AS k", f"{row_hash} AS h", *extra]
    session.con.execute(
        f"COPY (SELECT {', '.join(columns)} FROM {rows}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION lz4)"
    )


def find_differing_keys(session: Session, left: Path, right: Path) -> int:
    """Make the table `differing_keys` (_key_hash) of the rows that differ between two files of `write_hashes`.

    Returns:
        The number of key hashes.
    """
    session.con.execute("CREATE OR REPLACE TABLE differing_keys (_key_hash BIGINT)")
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
            f"INSERT INTO differing_keys SELECT coalesce(l.k, r.k) FROM ({sides[0]}) l FULL JOIN ({sides[1]}) r ON l.k = r.k"
            " WHERE l.n IS DISTINCT FROM r.n OR l.x IS DISTINCT FROM r.x OR l.s IS DISTINCT FROM r.s"
        )
    count: int = session.value("SELECT count(*) FROM differing_keys")
    return count


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


def document_key_sql(key: Sequence[str], member: str | None = ITEM_MEMBER, document: str = "item") -> str:
    """SQL of `_key` of an item in a JSON document; NULL if it has no key. `member`: the member that is the item."""
    above = "" if member is None else f"/{member}"
    return " || ".join(_key_part(document, f"{above}/{_pointed(name)}") for name in key)


def _key_part(document: str, pointer: str) -> str:
    """SQL of one attribute's part of `_key`. `pointer`: the JSON Pointer of its value in the document."""
    pieces = []
    for tag in ("S", "N", "B"):
        text = f"json_extract_string({document}, {literal(f'{pointer}/{tag}')})"
        if tag == "N":
            plain = f"regexp_full_match({text}, '0|-?[1-9][0-9]{{0,17}}')"
            text = f"CASE WHEN {plain} THEN {text} ELSE ddb_plain_number({text}) END"
        elif tag == "B":
            text = f"to_base64(from_base64({text}))"
        pieces.append(f"'{tag}' || length({text}) || ':' || {text}")
    return f"coalesce({', '.join(pieces)})"


def _pointer(path: MemberPath) -> str:
    """The JSON Pointer of an item's member in a line."""
    return "/M".join(["", *(f"/{_pointed(name)}" for name in path)]).replace("/M", f"/{ITEM_MEMBER}", 1)


def _pointed(name: str) -> str:
    """A name as a step of a JSON Pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _fingerprints(lines: Any) -> pa.Array:
    return pa.array([None if line is None else fingerprint(line) for line in _texts(lines)], pa.int64())


def _dumped_fingerprints(items: Any, rescued: Any) -> pa.Array:
    head = f'{{"{ITEM_MEMBER}":'.encode()
    found = [
        None
        if item is None
        else fingerprint(head + (item if more is None else complete(item.decode(), more.decode())) + b"}")
        for item, more in zip(_texts(items), _texts(rescued), strict=True)
    ]
    return pa.array(found, pa.int64())


def _texts(column: Any) -> Iterator[bytes | None]:
    """The texts of a column as UTF-8. Python holds a few at the same time."""
    for start in range(0, len(column), _SLICE_ROWS):
        yield from column.slice(start, _SLICE_ROWS).cast(pa.binary()).to_pylist()


def _completed(item: str | None, rescued: str | None) -> str | None:
    return None if item is None else complete(item, rescued).decode()


def _plain_number(text: str | None) -> str | None:
    return None if text is None else canonical_number(text)
