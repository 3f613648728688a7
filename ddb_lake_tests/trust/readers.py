"""A fuzzer of two readers of items: a line of a full export and the new image of a change record with the same text.

Both readers accept the text and give the item that plain JSON decoding gives, or both reject it. An item is compared
by a canonical form that is written here and shares no code with the lake. The export's lines are projected onto a schema
that some of the items suggest, widened so that DuckDB looks the columns up one by one, transforms them, or leaves them to
Python.
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
import orjson

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.decode.export_lines import ITEM_MEMBER
from ddb_lake.core.schema.table_schema import Column, SchemaOptions, TableSchema
from ddb_lake.core.schema.table_schema import Path as AttributePath
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.projection import LOOKED_UP, LOOKED_UP_BY_KERNEL, MOST_IN_SQL, Projection
from ddb_lake.engine.schema_fitting import guess
from ddb_lake.engine.session import Session, connect
from ddb_lake.pipeline.load.export_files import LocalFile, lines_sql
from ddb_lake_tests.support.dynamodb_values import CASES
from ddb_lake_tests.support.group_reader import group_reader
from ddb_lake_tests.support.line_check import Recording
from ddb_lake_tests.trust.fuzzing import a_value, an_item, mutated, no_value, written
from ddb_lake_tests.trust.mutating import TOKENS, WAYS

GROUP: Final = 600
"""Items that are read together."""

SESSION_GROUPS: Final = 40
"""Groups for which one DuckDB connection is used: it keeps the functions of each projection."""

WIDTHS: Final = {"looked up": 0, "transformed": LOOKED_UP_BY_KERNEL + 20, "in Python": MOST_IN_SQL + 20}
"""Columns that are added to a schema for each implementation of the projection."""

TYPES: Final = (
    ("S", "string"), ("N", "long"), ("N", "decimal(38,2)"), ("N", "decimal(9,0)"), ("N", "string"), ("N", "double"),
    ("B", "binary"), ("BOOL", "boolean"), ("SS", "list<string>"), ("NS", "list<long>"), ("NS", "list<string>"),
    ("BS", "list<binary>"), ("L", "json"), ("M", "json"),
)  # fmt: skip
KEY: Final = Column(("id",), "S", "id", "string")
TEXTS: Final = tuple(case.text for case in CASES if len(case.text) < 5_000)


# --- items


def members(chance: random.Random, wide: Sequence[str]) -> bytes:
    """The text of an item's attributes without the key and without braces: an item, or what is nearly one."""
    item: Any = an_item(chance)
    item.pop("id", None)
    for name in chance.sample(wide, min(len(wide), chance.choice((0, 1, 3)))):
        item[name] = a_value(chance)
    for _ in range(chance.choice((0, 0, 0, 0, 0, 1, 1, 2))):
        item = mutated(item, chance)
    if not isinstance(item, dict):
        item = {"a": no_value(chance)}
    try:
        text = written(item, chance).strip()[1:-1].strip()
    except RecursionError:  # nested more deeply than Python writes
        text = b'"a":' + b'{"L":[' * 1_500 + b"]}" * 1_500
    if chance.random() < 0.2:
        case = f'"case":{chance.choice(TEXTS)}'.encode("utf-8", "surrogatepass")
        text = text + b"," + case if text else case
    if chance.random() < 0.1:
        text = chance.choice(WAYS)(text, chance, chance.choice(TOKENS))
    return text.replace(b"\n", b" ").replace(b"\r", b" ")


def item_text(number: int, rest: bytes, last: bool) -> bytes:
    """The text of an item with a key of its own."""
    key = b'"id":{"S":"%d"}' % number
    parts = [part for part in ((rest, key) if last else (key, rest)) if part]
    return b"{" + b",".join(parts) + b"}"


def closed(text: bytes) -> bool:
    """Whether an object ends where its text does, so that what follows a damaged item is no part of it."""
    try:
        return isinstance(json.loads(text.decode("utf-8", "replace")), dict)
    except (ValueError, RecursionError):
        return False


def readable_json(text: bytes) -> bool:
    """Whether a strict parser reads the text, so that DuckDB most likely does."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


# --- the canonical form


def canonical(item: bytes) -> str:
    """The text of an item that is equal for equal items only. A false NULL is a value of its own."""
    return json.dumps(_members(json.loads(item)), sort_keys=True)


def _members(item: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in item.items()}


def _value(value: dict[str, Any]) -> list[Any]:
    ((tag, payload),) = value.items()
    if tag == "N":
        return [tag, _number(payload)]
    if tag == "B":
        return [tag, base64.b64decode(payload).hex()]
    if tag == "M":
        return [tag, _members(payload)]
    if tag == "L":
        return [tag, [_value(member) for member in payload]]
    if tag in ("SS", "NS", "BS"):
        return [tag, sorted({json.dumps(_value({tag[0]: member})) for member in payload})]
    return [tag, payload]


def _number(text: str) -> str:
    sign, digits, exponent = Decimal(text).as_tuple()
    plain = "".join(map(str, digits)).lstrip("0")
    if not plain:
        return "0"
    short = plain.rstrip("0")
    return f"{'-' if sign else ''}{short}E{int(exponent) + len(plain) - len(short)}"


# --- the two readers


def exported(
    session: Session, lines: dict[int, bytes], schema: TableSchema, nulls: set[AttributePath]
) -> dict[int, bytes]:
    """The items that the lines of a data file are read as, by number; lines that are refused are missing."""
    narrow = Reading(session, TableSchema(KEY.path, (KEY,)), set())
    read = {n: line for n, line in lines.items() if readable_json(line) or not narrow.stops(line)}
    return Reading(session, schema, nulls).items(read)


class Reading:
    """Reads lines of data files with one projection."""

    def __init__(self, session: Session, schema: TableSchema, nulls: set[AttributePath]) -> None:
        self._session, self._check = session, Recording()
        self._projection = Projection(schema, nulls, ITEM_MEMBER, self._check)
        self._projection.register(session.con)

    def items(self, lines: dict[int, bytes]) -> dict[int, bytes]:
        """The items of lines that are accepted, by number."""
        rows = self.rows(lines)
        if rows is None:
            numbers = list(lines)
            half = len(numbers) // 2
            parts = (numbers[:half], numbers[half:]) if half else ()
            return {n: item for part in parts for n, item in self.items({n: lines[n] for n in part}).items()}
        assert len(rows) == len(lines), f"{len(lines)} lines written, {len(rows)} read"
        found = (complete(item, rescued) for line, item, rescued in rows if line not in self._check.invalid)
        return {int(json.loads(item)["id"]["S"]): item for item in found}

    def stops(self, line: bytes) -> bool:
        """Whether DuckDB stops at a line. One that is read alone spares reading its whole group in parts."""
        try:
            self._session.con.execute("SELECT json_extract_string(?, ['/id/S'])", [line.decode()])
        except duckdb.Error:
            return True
        except UnicodeDecodeError:  # is no parameter of a query, but a line of a file
            return self.rows({0: line}) is None
        return False

    def rows(self, lines: dict[int, bytes]) -> list[tuple[str, str, str | None]] | None:
        """The lines, what their columns hold and what is rescued; None if DuckDB stopped at one that is not JSON."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "data.json")
            path.write_bytes(b"".join(b'{"Item":%s}\n' % line for line in lines.values()))
            ref = ObjectRef(str(path), "1", path.stat().st_size, 0)
            source = (
                f"(SELECT item, item AS line FROM {lines_sql([LocalFile(str(path), path, len(lines), False, ref)])})"
            )
            schema = self._projection.schema
            try:
                self._session.con.execute(
                    f"CREATE OR REPLACE TABLE projected AS {self._projection.select(source, ['line'])}"
                )
            except duckdb.Error:
                return None
        return self._session.rows(f"SELECT line, {item_sql(schema)}, _rescued FROM projected")


def changed(lines: dict[int, bytes], fast: bool) -> dict[int, bytes]:
    """The new images of change records of these items, by number; records that are quarantined are missing."""
    data = b"\n".join(
        b'{"eventName":"INSERT","eventID":"%d","eventVersion":"1.1","dynamodb":{"ApproximateCreationDateTime":1700000000,'
        b'"Keys":{"id":{"S":"%d"}},"NewImage":%s}}' % (number, number, line)
        for number, line in lines.items()
    )
    with TemporaryDirectory() as folder:
        reader = group_reader(folder, "t", fast=fast)
        group = reader.read([(ObjectRef("s3://bucket/object", "1", len(data), 0), data)])
        with duckdb.connect() as con:
            rows = con.execute(
                "SELECT event_id, new_image FROM read_parquet(?)", [str(group.tables["t"].changes.path)]
            ).fetchall()
    return {int(number): image.encode() for number, image in rows}


# --- comparison


@dataclass
class Compared:
    """What was tried, and the items that were read differently, with the schema's way and both results."""

    inputs: int = 0
    accepted: int = 0
    rejected: int = 0
    differences: list[str] = field(default_factory=list)

    def line(self) -> str:
        """In one line."""
        return (
            f"{self.inputs:,} items read from an export and from a change, {self.accepted:,} accepted by both,"
            f" {self.rejected:,} rejected by both, {len(self.differences)} differences"
        )


def compare(
    seed: int,
    *,
    count: int | None = None,
    seconds: float | None = None,
    progress: Callable[[Compared], None] | None = None,
) -> Compared:
    """Compare the two readers on so many items, or for so long."""
    chance, found, started = random.Random(seed), Compared(), time.monotonic()
    while True:
        with connect() as session:
            for _ in range(SESSION_GROUPS):
                for way in WIDTHS:
                    _compare(session, chance, way, found)
                    if progress is not None:
                        progress(found)
                if (count is not None and found.inputs >= count) or (
                    seconds is not None and time.monotonic() - started >= seconds
                ):
                    return found


def _compare(session: Session, chance: random.Random, way: str, found: Compared) -> None:
    wide = [f"p{number}" for number in range(WIDTHS[way])]
    lines = {number: item_text(number, members(chance, wide), chance.random() < 0.5) for number in range(GROUP)}
    fast = chance.random() < 0.7
    changes = changed({number: line for number, line in lines.items() if closed(line)}, fast)
    schema, nulls = _schema(chance, [json.loads(image) for image in changes.values()], wide)
    items = exported(session, lines, schema, nulls)
    found.inputs += len(lines)
    for number, line in lines.items():
        item, image = items.get(number), changes.get(number)
        if item is None and image is None:
            found.rejected += 1
        elif item is not None and image is not None and canonical(item) == canonical(image) == canonical(line):
            found.accepted += 1
        else:
            found.differences.append(
                f"{way}, {'fast' if fast else 'strict'}, {_shown(schema)}: {line!r}: export {item!r}, change {image!r}"
            )


def _schema(
    chance: random.Random, items: Sequence[Item], wide: Sequence[str]
) -> tuple[TableSchema, set[AttributePath]]:
    """Columns that some of the items suggest, and as many as `wide` has names; and paths where NULL is expected."""
    known = [KEY]
    for name in wide:
        tag, column_type = chance.choice(TYPES)
        known.append(Column((name,), tag, name, column_type))
    sample = chance.sample(items, min(len(items), chance.choice((0, 1, 3, 10) if wide else (0, 1, 2, 3, 4))))
    options = SchemaOptions(depth=chance.randint(1, 5))
    schema, nulls = guess(sample, TableSchema(("id",), tuple(known)), options)
    if wide or len(schema.columns) <= LOOKED_UP:
        return schema, nulls
    return TableSchema(("id",), schema.columns[:LOOKED_UP]), nulls


def _shown(schema: TableSchema) -> list[tuple[str, str, str]]:
    return [(".".join(c.path), c.tag, c.type) for c in schema.columns if not c.name.startswith("p")]
