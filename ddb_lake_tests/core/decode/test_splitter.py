from __future__ import annotations

import gzip
import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.decode.splitter import Segment, split_json
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support import strategies as ddb
from ddb_lake_tests.support.containers import zipped
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.numbered_records import RECORDS, make, numbers


def pieces(data: bytes) -> list[Segment]:
    """All pieces. Fails unless they are in order, do not overlap, and have the bytes at their offsets."""
    found = list(split_json(data))
    position = 0
    for piece in found:
        assert piece.offset >= position
        assert data[piece.offset : piece.offset + len(piece.raw)] == piece.raw
        assert (piece.value is None) == bool(piece.problem)
        position = piece.offset + len(piece.raw)
    return found


def values(data: bytes) -> list[Any]:
    return [piece.value for piece in pieces(data)]


objects = st.dictionaries(
    st.text(max_size=3) | ddb.texts(), ddb.values() | ddb.texts() | st.integers(-5, 5), max_size=3
)
spaces = st.sampled_from([b"", b"\n", b" ", b"\t", b"\r\n", b"\n\n", b"  \n ", b"\xef\xbb\xbf", b"\n\xef\xbb\xbf"])
dumps = st.sampled_from([
    envelopes.compact,
    lambda obj: json.dumps(obj).encode(),
    lambda obj: json.dumps(obj, indent=1).encode(),
    lambda obj: json.dumps(obj, ensure_ascii=False, separators=(" , ", " : ")).encode(),
])  # fmt: skip


@given(st.lists(st.tuples(spaces, dumps, objects), max_size=5), spaces)
def test_split_any_objects_any_way_gives_them_back(parts: list[Any], end: bytes) -> None:
    data = b"".join(space + dump(obj) for space, dump, obj in parts) + end
    assert values(data) == [obj for _, _, obj in parts]


@given(st.lists(st.tuples(spaces, dumps, envelopes.changes()), max_size=3), spaces)
@settings(max_examples=50)
def test_split_whole_array_of_records_is_unwrapped(parts: list[Any], end: bytes) -> None:
    records = [envelopes.kds(change) for _, _, change in parts]
    for text in (envelopes.compact(records), json.dumps(records, indent=2).encode()):
        assert values(end + text + end) == records


def test_split_line_of_records_with_boundaries_inside_their_texts() -> None:
    nasty = [{"a": "}{"}, {"}{": ":"}, {"a": '}{"b":1}'}, {"}{": {"}{": ["}{", ":"]}}, {"": ""}, {}, {"x": {}}]
    for dump in (envelopes.compact, lambda obj: json.dumps(obj).encode()):
        assert values(b"".join(map(dump, nasty))) == nasty
        assert values(b" ".join(map(dump, nasty * 3))) == nasty * 3


GARBAGE = [
    b"garbage",
    b"\x00\xff\xfe",
    b"{",
    b"}",
    b'"',
    b'{"',
    b'{"a',
    b'{"a":',
    b'{"a":{"b":"c',
    b'{"a":[',
    b'{"a":[{"b":1},',
    b"\\",
    b'{"a":"\\',
    b"}}}}",
    b"]]",
    b'{"Keys":{"id":{"S":"x"}},"NewImage"',
    b"123",
    b'"text"',
    b"null",
    b"[1,",
    b"{}}",
    b"{'a':1}",
    b'"NewImage":{"id":{"N":"7"}},',
    b"$ion_1_0 {Item:{Id:103.}}",
    b'{"a":"\x01"}',
    b"-",
    b"tru",
    b'{"a":"\\ud800"}',
    b'{"a":NaN}',
    b"\xef\xbb",
    b'{"a":1,"a":2}',
    b"{" * 50,
    b'{"a":' * 997,
    b'{"a":' * 2000,
    b"[" * 2000,
]

MAGICS = (
    b"\x1f\x8b\x08", b"PK\x03\x04", b"PK\x05\x06", b"\xff\x06\x00\x00sNaPpY", b"\x82SNAPPY\x00",
    b"\xe0\x01\x00\xea", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00",
)  # fmt: skip
"""An object that begins with one of these is compressed or foreign, and if it is not goes to quarantine as a whole."""

garbage = st.one_of(
    st.sampled_from(GARBAGE),
    st.binary(max_size=12).filter(lambda text: not text.startswith(MAGICS)),
    st.integers(1, len(RECORDS[0]) - 1).map(lambda size: RECORDS[0][:size]),
    st.integers(1, len(RECORDS[0]) - 1).map(lambda size: RECORDS[0][size:]),
)


@given(st.lists(st.one_of(st.integers(1, 3), garbage), max_size=7))
@settings(max_examples=400)
def test_garbage_on_lines_of_its_own_never_costs_a_record(parts: list[Any]) -> None:
    lines = [RECORDS[part] if isinstance(part, int) else part for part in parts]
    data = b"\n".join(lines)
    assert [n for n in numbers(data) if n > 0] == [part for part in parts if isinstance(part, int)]
    _nothing_is_lost(data)


def _nothing_is_lost(data: bytes) -> None:
    """Every byte is in a piece, or is white space, a byte order mark, or a separator."""
    position, between = 0, b""
    for piece in pieces(data):
        between += data[position : piece.offset]
        position = piece.offset + len(piece.raw)
    between += data[position:]
    assert not between.replace(b"\xef\xbb\xbf", b"").strip(b" \t\r\n,[]")


@given(st.integers(0, len(RECORDS[0]) - 1), st.sampled_from([b"", b"\n", b" "]), st.sampled_from([b"", b"\n"]))
@settings(max_examples=300)
def test_truncated_record_never_costs_the_next_and_is_never_a_record_itself(
    size: int, delimiter: bytes, after: bytes
) -> None:
    data = RECORDS[1] + delimiter + RECORDS[0][:size] + delimiter + RECORDS[2] + after + RECORDS[3]
    found = numbers(data)
    assert [n for n in found if n >= 0] == [1, 2, 3]
    assert found.count(-1) == (1 if size else 0)
    _nothing_is_lost(data)


@given(st.integers(1, len(RECORDS[0]) - 1), st.sampled_from([b"", b"\n"]))
@settings(max_examples=300)
def test_tail_of_a_record_never_costs_the_next_and_is_never_a_record_itself(size: int, delimiter: bytes) -> None:
    data = RECORDS[0][size:] + delimiter + RECORDS[2] + RECORDS[3]
    assert [n for n in numbers(data) if n >= 0] == [2, 3]
    assert [n for n in numbers(data, asserted_us=1) if n >= 0] == [2, 3]
    _nothing_is_lost(data)


@given(st.integers(1, 2000), st.sampled_from([None, 2]))
@settings(max_examples=100)
def test_truncated_event_yields_its_complete_records(size: int, indent: int | None) -> None:
    text = json.dumps({"Records": [make(0), make(1), make(2)]}, indent=indent).encode()
    found = [n for n in numbers(text[:size]) if n >= 0]
    assert found == list(range(len(found)))
    assert len(found) in (text[:size].count(b"aws:dynamodb"), text[:size].count(b"aws:dynamodb") - 1)


def test_pretty_printed_records_are_read_with_garbage_around_them() -> None:
    pretty = [json.dumps(make(number), indent=2).encode() for number in range(3)]
    assert numbers(b"\n".join(pretty)) == [0, 1, 2]
    assert numbers(b"".join(pretty)) == [0, 1, 2]
    found = numbers(pretty[0] + b"\n" + pretty[1][:200] + b"\n" + pretty[2])
    assert [n for n in found if n >= 0] == [0, 2]


def test_garbage_is_one_piece_for_each_line_of_it() -> None:
    found = pieces(b"one\n\ntwo " + RECORDS[0] + b"three\r\n  four\n")
    assert [piece.raw for piece in found if piece.value is None] == [b"one", b"two ", b"three\r", b"  four"]


def test_separators_of_an_array_are_no_garbage() -> None:
    lines = b"[\n" + b",\n".join(RECORDS) + b"\n]\n"
    assert numbers(lines) == [0, 1, 2, 3]
    assert numbers(b"[" + b",".join(RECORDS)) == [0, 1, 2, 3]
    assert numbers(b",\n".join(RECORDS)) == [0, 1, 2, 3]
    assert numbers(b"[1,2]\n") == [-1]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"x", "no JSON object"),
        (b"5", "a JSON value that is no object"),
        (b"null", "a JSON value that is no object"),
        (b'{"a":', "a damaged or truncated JSON object"),
        (b"$ion_1_0 {Item:{}}", "Amazon Ion, which is read in exports only; load the export with `ddb-lake load`"),
        (b'{"a":{"b":1,"b":1}}', "two members of one JSON object have the same name"),
        (b'{"a" : "x","\\u0061":"x\\":"}', "two members of one JSON object have the same name"),
        (b'{"b":"\\u0022:","a":1,"a":2}', "two members of one JSON object have the same name"),
    ],
)
def test_garbage_says_what_is_wrong(data: bytes, problem: str) -> None:
    assert [piece.problem for piece in pieces(data)] == [problem]


FEWER = by_effort(8, 3, 1)
"""`make test` reads a megabyte's eighth; in an exhaustive run, time that grows with the square would show."""

HOSTILE = {
    "braces": b"{" * (1_000_000 // FEWER),
    "braces and quotes": b'{"' * (250_000 // FEWER),
    "deep objects": b'{"a":' * (200_000 // FEWER),
    "deep objects of lines": b'{"a":\n' * (170_000 // FEWER),
    "deep arrays": b"[" * (1_000_000 // FEWER),
    "arrays of objects": b'[{"a":' * (160_000 // FEWER),
    "boundaries": b'}{"":' * (200_000 // FEWER),
    "boundaries in texts": b'{"a":[' + b'"}{",' * (200_000 // FEWER),
    "boundaries that look right": b'{"a":[{"}{":":"},' * (60_000 // FEWER),
    "joints without end": b'{"a":{}{"b":' * (80_000 // FEWER),
    "tiny objects with commas": b'{"a":1},' * (120_000 // FEWER),
    "tiny objects": b'{"a":1}' * (140_000 // FEWER),
    "first keys": b'{"eventID":' * (90_000 // FEWER),
    "envelopes in envelopes": b'{"Keys":{},"Metadata":' * (45_000 // FEWER),
    "an endless text": b'{"a":"' + b"x" * (1_000_000 // FEWER),
    "escapes": b'{"a":"' + b'\\"{' * (300_000 // FEWER),
    "spaces": b'{ "a" : "' + b" " * (1_000_000 // FEWER),
    "line breaks": b"{\n" * (100_000 // FEWER),
    "text lines": b'"a": "b",\n' * (60_000 // FEWER),
    "quotes": b'"' * (1_000_000 // FEWER),
    "nul": bytes(1_000_000 // FEWER),
    "gzip starts": gzip.compress(b"x")[:10] * (100_000 // FEWER),
    "zip starts": (zipped(b"x")[:40]) * (25_000 // FEWER),
}


@pytest.mark.more_examples
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_take_linear_time_and_do_not_hide_the_record_behind_them(name: str) -> None:
    data = HOSTILE[name] + b"\n" + RECORDS[1]
    started = time.process_time()
    found = numbers(data)
    assert time.process_time() - started < 10
    if "starts" not in name:
        assert [n for n in found if n >= 0] == [1]


def test_orjson_is_as_strict_as_the_scanner_expects() -> None:
    for text in (b'{"a":01}', b'{"a":1,}', b"{'a':1}", b'{"a":"\x01"}', b'{"a":+1}', b'{"a":.5}'):
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(text)
