"""The record kernel reads items as DuckDB does, and only items that are valid and have nothing but the known attributes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.decode.export_lines import ITEM_MEMBER, read_full_line
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Column, SchemaOptions, TableSchema
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.native.items import ItemReader, KnownAttribute
from ddb_lake.engine.native.library import load
from ddb_lake.engine.projection import LARGE_DOCUMENT_BYTES, Projection
from ddb_lake.engine.session import Session, connect
from ddb_lake_tests.support.effort import SHARED_FIXTURE, by_effort, cases, examples
from ddb_lake_tests.support.kernel_items import LEFT, POINTERS, READ, TYPES, line, mutated_lines
from ddb_lake_tests.support.line_check import Recording
from ddb_lake_tests.support.mutated_bytes import mutated
from ddb_lake_tests.support.staged_objects import record_kernel
from ddb_lake_tests.support.strategies import items


@pytest.fixture(autouse=True)
def on() -> Iterator[None]:
    with record_kernel("on"):
        yield


def read(
    lines: Sequence[bytes],
    member: str | None = ITEM_MEMBER,
    pointers: Sequence[str] = POINTERS,
    types: Sequence[str] | None = None,
) -> list[Any]:
    """The values of each line, by default their texts; None for a line that is not read."""
    item = KnownAttribute.of_pointers(pointers)
    assert item is not None
    array = pa.array(lines, pa.binary()).view(pa.string())
    found = ItemReader(load().library, member, item, types or ["string"] * len(pointers)).read(array)
    assert found.validate(full=True) is None
    return [list(row.values())[1:] if row["is_read"] else None for row in found.to_pylist()]


@cache
def connection() -> Any:
    """One DuckDB connection for all lines."""
    return duckdb.connect()


def looked_up(text: bytes) -> list[str | None]:
    """The texts of a line as DuckDB looks them up."""
    row = (
        connection()
        .execute("SELECT json_extract_string(?, ?)", [text.decode(), ["/Item" + p for p in POINTERS]])
        .fetchone()
    )
    assert row is not None
    return list(row[0])


def covered(item: Item) -> bool:
    """Whether each value of an item has a text, and nothing else is in it."""

    def places(value: Any, at: str) -> Iterator[bool]:
        for name, (tag, inner) in ((name, *tagged.items()) for name, tagged in value.items()):
            where = f"{at}/{name.replace('~', '~0').replace('/', '~1')}/{tag}"
            known = where in POINTERS
            yield known or (tag == "M" and bool(inner) and all(places(inner, where)))

    return bool(item) and all(places(item, ""))


def assert_read_well(text: bytes) -> bool:
    """If the kernel reads a line, it is valid, covered, and has the texts that DuckDB looks up. Returns whether it does."""
    (texts,) = read([text])
    if texts is None:
        return False
    assert covered(read_full_line(text))
    assert texts == looked_up(text)
    return True


@pytest.mark.parametrize("item", READ, ids=str)
def test_items_of_known_attributes_are_read(item: Item) -> None:
    assert assert_read_well(line(item))


@pytest.mark.parametrize("item", LEFT, ids=lambda item: str(item)[:40])
def test_other_items_are_left(item: Item) -> None:
    assert read([line(item)]) == [None]


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{}", b'{"Item":{"id":{"S":"k"}}} ', b' {"Item":{"id":{"S":"k"}}}', b'{"Item":{"id":{"S":"k"}}}}',
        b'{"Item":{"id":{"S":"k"}},"Item":{"id":{"S":"k"}}}', b'{"Item":{"id":{"S":"k"},"id":{"S":"k"}}}',
        b'{"item":{"id":{"S":"k"}}}',
        b'{"Item":{"id":{"S":"k","S":"k"}}}', b'{"Item":{"id":{"S":"k"},}}', b'{"Item":{"doc":{"M":{"a":{"S":"1"},"a":{"S":"1"}}}}}',
        b'{"Item":{"list":{"L":[{"M":{"a":{"S":"1"},"a":{"S":"1"}}}]}}}', b'{"Item":{"id":{"S":"\xed\xa0\x80"}}}',
        b'{"Item":{"id":{"S":"\xff"}}}',
        b'{"Item":{"id":{"S":"\\u00e9"}}}', b'{"Item":{"id":{"S":"\\/"}}}', b'{"Item":{"i\\u0064":{"S":"k"}}}',
        b'{"Item":{"id":{"S":"a\x00"}}}',
    ],
)  # fmt: skip
def test_lines_of_another_form_are_left(text: bytes) -> None:
    assert read([text, line(READ[0])]) == [None, ["k", *[None] * 16]]


@pytest.mark.parametrize("levels", range(6, 11))
@pytest.mark.parametrize("kind", ["M", "L"])
def test_as_many_levels_as_the_pattern_accepts(kind: str, levels: int) -> None:
    opening, closing = {"M": (b'{"M":{"m":', b"}}"), "L": (b'{"L":[', b"]}")}[kind]
    name = {"M": b"doc", "L": b"list"}[kind]
    text = b'{"Item":{"%b":%b}}' % (name, opening * levels + b'{"S":"x"}' + closing * levels)
    assert assert_read_well(text) == (levels <= 8)


def test_many_lines_with_an_offset_and_items_without_a_member() -> None:
    bare = [orjson.dumps(item) for item in (*READ, *LEFT) for _ in range(300)]
    expected = [read([line(item)])[0] for item in (*READ, *LEFT) for _ in range(300)]
    assert read(bare, member=None) == expected
    item = KnownAttribute.of_pointers(POINTERS)
    assert item is not None
    reader = ItemReader(load().library, None, item, ["string"] * len(POINTERS))
    array = pa.array(bare, pa.string())
    assert reader.read(array.slice(7, 0)).to_pylist() == []
    assert reader.read(array.slice(650)).to_pylist() == reader.read(array).to_pylist()[650:]
    parts = pa.chunked_array([array.slice(0, 10), array.slice(10, 1100)])
    assert reader.read(parts).to_pylist() == reader.read(array.slice(0, 1110)).to_pylist()


def test_arrays_of_any_layout() -> None:
    """Bytes behind NULL, offsets of 64 bits and views."""
    texts = [line(READ[0]).decode(), "", line(READ[0]).decode()]
    item = KnownAttribute.of_pointers(["/id/S"])
    assert item is not None
    reader = ItemReader(load().library, ITEM_MEMBER, item, ["string"])
    known, other = {"is_read": True, "0": "k"}, {"is_read": False, "0": None}
    whole = pa.array(texts, pa.string())
    _, offsets, data = whole.buffers()
    behind_null = pa.Array.from_buffers(pa.string(), 3, [pa.py_buffer(b"\x06"), offsets, data])
    assert reader.read(behind_null).to_pylist() == [other, other, known]
    for kind in (pa.large_string(), pa.string_view()):
        assert reader.read(pa.array(texts, kind)).to_pylist() == [known, other, known]
        assert reader.read(pa.chunked_array([texts, texts[:1]], kind)).to_pylist() == [known, other, known, known]


def test_texts_are_not_copied() -> None:
    """DuckDB gives an array of one chunk, whose copy its limit of memory would not count."""
    item = KnownAttribute.of_pointers(["/id/S"])
    assert item is not None
    documents = pa.array([b'{"Item":{"id":{"S":"a text that is longer than a view"}}}'] * 50, pa.binary()).view(
        pa.string()
    )
    parts = pa.chunked_array([documents.slice(7)])
    texts = ItemReader(load().library, ITEM_MEMBER, item, ["string"]).read(parts).field("0")
    assert texts.to_pylist() == ["a text that is longer than a view"] * 43
    assert texts.buffers()[2].address == documents.buffers()[2].address


@pytest.mark.parametrize(
    "pointers",
    [["/a"], ["/a/S", "/a/M/b/S", "/a/M"], ["/a/M", "/a/M/b/S"], ["/a/S", "/a/S"], ["/a/L/0/S"], ["/a/X"], [""]],
    ids=str,
)
def test_pointers_of_something_else_are_not_read(pointers: list[str]) -> None:
    assert KnownAttribute.of_pointers(pointers) is None


@pytest.mark.parametrize("seed", cases(range(60), quick=[0], exhaustive=range(10)))
def test_mutated_lines_are_read_well_or_left(seed: int) -> None:
    read_well = sum(map(assert_read_well, mutated_lines(seed, 500)))
    assert 50 < read_well < 400  # it accepts and it refuses


# --- columns of types


def held(text: str | None, column_type: str) -> Any:
    """The value of a column for the text that DuckDB looks up; `...` for a number that the column does not hold."""
    if text is None or column_type == "string":
        return text
    if column_type in ("boolean", "list<string>"):
        return json.loads(text)
    number, limit = Decimal(text), Decimal(10) ** 35
    if column_type == "long":
        return int(number) if number == int(number) and -(2**63) <= number < 2**63 else ...
    assert column_type == "decimal(38,3)"
    return number if number.copy_abs() < limit and number.as_tuple().exponent >= -3 else ...  # type: ignore[operator]


def assert_typed_well(texts: Sequence[bytes]) -> int:
    """Each line that the kernel reads into texts has equal values in columns of types, or is left if one does not hold its number.
    Returns how many were read into both."""
    count = 0
    for text, found in zip(read(texts), read(texts, types=TYPES), strict=True):
        values = None if text is None else list(map(held, text, TYPES))
        assert found == (None if values is None or ... in values else values)
        count += found is not None
    return count


def test_columns_of_types_have_the_same_values() -> None:
    numbers = [
        f"{sign}{digits}" for sign in ("", "-") for digits in ("1", "12.345", "12.3456", "9" * 19, "9" * 20, "9" * 38)
    ]
    numbers += [
        f"{sign}{2**power + more}" for sign in ("", "-") for power in (59, 60, 63, 64, 116) for more in (-1, 0, 1)
    ]
    numbers += ["0", "0.001", "-0.001", "0.0001", "9" * 35, f"1{'0' * 35}", f"-{'9' * 35}.999", f"{'9' * 35}.9991"]
    items = [item for n in numbers for item in ({"n": {"N": n}}, {"map": {"M": {"ü/~": {"N": n}}}})]
    read_well = assert_typed_well([line(item) for item in (*items, *READ, *LEFT)])
    assert len(items) / 3 < read_well < len(items)


@pytest.mark.parametrize("seed", cases(range(60), quick=[0], exhaustive=range(10)))
def test_mutated_lines_have_the_same_values(seed: int) -> None:
    assert 50 < assert_typed_well(list(mutated_lines(seed, 500))) < 450


def test_sets_of_many_texts() -> None:
    """More than the reader has room for at first, and then fewer."""
    item = KnownAttribute.of_pointers(["/a/SS", "/b/NS"])
    assert item is not None
    reader = ItemReader(load().library, ITEM_MEMBER, item, ["list<string>", "list<string>"])
    for size in (0, 1, 500, 3, 5000):
        rows = [{"a": {"SS": [f"text {n}" for n in range(size)]}, "b": {"NS": ["1"] * (size // 2)}}] * 3
        found = reader.read(pa.array([line(row).decode() for row in rows]))
        assert found.validate(full=True) is None
        assert found.to_pylist() == [{"is_read": True, "0": row["a"]["SS"], "1": row["b"]["NS"]} for row in rows]


# --- the projection


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect() as opened:
        yield opened


def projected(session: Session, lines: Sequence[bytes], known: Sequence[Item], depth: int, switch: str) -> Any:
    """The rows of some lines, and those that are invalid; or what DuckDB does not read."""
    inference = Inference(SchemaOptions(depth=depth))
    for item in known:
        inference.observe(item)
    schema, check = TableSchema(("id",), inference.columns(("id",))), Recording()
    nulls = {path for path, stats in inference.paths.items() if "NULL" in stats.counts}
    with record_kernel(switch):
        projection = Projection(schema, nulls, ITEM_MEMBER, check)
    projection.register(session.con)
    session.con.register(
        "lines", pa.table({"line": pa.array(lines, pa.binary()).view(pa.string()), "number": range(len(lines))})
    )
    query = projection.select("(SELECT line::JSON AS item, number FROM lines)", ["number"])
    try:
        rows = session.rows(f"SELECT * FROM ({query}) ORDER BY number")
    except (duckdb.Error, UnicodeDecodeError) as error:
        return type(error)
    return rows, check.invalid, check.faults


def assert_projected_alike(session: Session, lines: Sequence[bytes], known: Sequence[Item], depth: int) -> None:
    valid_utf8 = [text for text in lines if _is_utf8(text)]
    plain, native = (projected(session, valid_utf8, known, depth, switch) for switch in ("off", "on"))
    if isinstance(plain, type) and len(valid_utf8) > 1:  # one line that is not JSON hides the others
        for text in valid_utf8:
            assert_projected_alike(session, [text], known, depth)
    else:
        assert native == plain


def _is_utf8(text: bytes) -> bool:
    """Whether a text can be a string of DuckDB."""
    return text.decode("utf-8", "replace").encode() == text and b"\x00" not in text


def test_large_documents_are_left_to_sql() -> None:
    schema = TableSchema((), (Column(("id",), "S", "id", "string"),))
    queries = [
        Projection(schema, document_bytes=size).select("documents")
        for size in (0, LARGE_DOCUMENT_BYTES - 1, LARGE_DOCUMENT_BYTES)
    ]
    assert ["n.is_read" in query for query in queries] == [True, True, False]


@pytest.mark.parametrize("seed", cases(range(40), quick=[0], exhaustive=range(3)))
def test_mutated_lines_are_projected_alike(session: Session, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(by_effort(3, 4, 20)):
        known = [chance.choice(READ) for _ in range(6)]
        lines = []
        for _ in range(12):
            text = line({**chance.choice(known), **chance.choice(known), **chance.choice((*known, *READ, *LEFT))})
            lines.append(mutated(chance, text) if chance.random() < 0.3 else text)
        assert_projected_alike(session, lines, known, chance.choice((1, 2, 3)))


@examples(4, 12, 300, suppress=SHARED_FIXTURE)
@given(
    st.lists(items(), min_size=1, max_size=5),
    st.lists(items(), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(0, 1 << 30),
)
def test_any_items_are_projected_alike(
    session: Session, rows: list[Item], known: list[Item], depth: int, seed: int
) -> None:
    lines = [
        spelled.encode() for item in (*rows, *known) for spelled in (json.dumps({"Item": item}), line(item).decode())
    ]
    chance = random.Random(seed)
    assert_projected_alike(session, [*lines, *(mutated(chance, text) for text in lines[:2])], known, depth)
