"""The sensor's cursor: any text is read without an exception, and what is not exactly ours is not used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.pipeline.plan.cursor import Request, SensorCursor, TableCursor, parse_cursor

SECONDS = st.integers(0, 10**11)
REQUESTS = st.dictionaries(st.text(), st.builds(Request, st.text(), st.integers(1, 10**6), SECONDS), max_size=2)
TABLES = st.builds(TableCursor, SECONDS, SECONDS, SECONDS, SECONDS, st.text(), st.integers(-48, 48), REQUESTS)
CURSORS = st.builds(SensorCursor, st.none() | st.text(), st.dictionaries(st.text(), TABLES, max_size=3))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from(["v", "next", "t", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, member in inner for found in leaves(member, (*path, name)))]


@given(CURSORS.filter(lambda cursor: all("window" not in table.requests for table in cursor.tables.values())))
def test_cursor_is_read_back(cursor: SensorCursor) -> None:
    assert parse_cursor(cursor.dump(cursor.tables)) == (cursor, None)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")) | JSON.map(json.dumps))
def test_any_text_gives_a_cursor(text: str) -> None:
    cursor, fault = parse_cursor(text)
    assert (cursor == SensorCursor()) or fault is None
    if fault is None and text:
        assert json.loads(cursor.dump(cursor.tables)) == json.loads(text)


@given(CURSORS, st.data())
def test_value_of_another_type_or_size_gives_an_empty_cursor_or_the_value(
    cursor: SensorCursor, data: st.DataObject
) -> None:
    document = json.loads(cursor.dump(cursor.tables))
    path = data.draw(st.sampled_from(leaves(document)))
    wrong = data.draw(JSON | st.just(10**400) | st.just([]))
    if path:
        *above, last = path
        place = document
        for name in above:
            place = place[name]
        place[last] = wrong
    found, fault = parse_cursor(json.dumps(document if path else wrong))
    assert fault is None or found == SensorCursor()
    found.dump(found.tables)
    for table in found.tables.values():
        for kind in [*table.requests, "export"]:
            table.should_request(kind, "state", 1_700_000_000)
            table.record_request(kind, "state", 1_700_000_000)


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "[]",
        "3",
        '"text"',
        "null",
        "true",
        "{",
        '{"v":1}',
        '{"v":0,"next":null,"t":{}}',
        '{"v":"1","next":null,"t":{}}',
        '{"v":1,"next":3,"t":{}}',
        '{"v":1,"next":null,"t":[]}',
        '{"v":1,"next":null,"t":{"a":[0,0,0,"",{"export":["s",0,0]},0,0]}}',
        '{"v":1,"next":null,"t":{"a":["0",0,0,"",{},0,0]}}',
        '{"v":1,"next":null,"t":{"a":[NaN,0,0,"",{},0,0]}}',
        '{"v":1,"next":null,"t":{"a":[0,0,0,"",{},0]}}',
        "[" * 100_000,
        "9" * 10_000,
        "\x00\ud800",
        SensorCursor("a", {"a": TableCursor()}).dump(["a"])[:-5],
    ],
    ids=lambda text: text[:40].encode("unicode_escape").decode(),
)
def test_other_text_is_not_used_and_the_reason_is_returned(text: str) -> None:
    cursor, fault = parse_cursor(text)
    assert cursor == SensorCursor() and fault
