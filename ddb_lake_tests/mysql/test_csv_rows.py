from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.errors import UndecodableError
from ddb_lake.mysql.csv_rows import Column, column_text, csv_row, sequence_of, write_row
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.csv_changes import read_rows
from ddb_lake_tests.support.decoded_changes import one
from ddb_lake_tests.support.strategies import texts, values

SEQUENCE = "49657828409187701520019995242508390119953358325192589314"
NEXT_SEQUENCE = "49657828409187701520019995242509599045772972954367295490"  # the next one AWS gave, of the same shard


def record(**members: Any) -> ChangeRecord:
    item: Any = {"id": {"S": "a"}, "hits": {"N": "1E2"}, "doc": {"S": '{"n":1.50,"s":{"x":["p","q"]}}'}}
    return ChangeRecord("kds", "INSERT", 1720742302233719, {"id": {"S": "a"}}, item, **members)


def row(change: ChangeRecord, **columns: str) -> list[str | None]:
    (found,) = read_rows(csv_row(change, [Column.at(name, pointer) for name, pointer in columns.items()]))
    return found


@given(st.lists(st.lists(st.none() | texts(), min_size=1, max_size=5), max_size=4))
def test_rows_come_back_as_they_were_written(rows: list[list[str | None]]) -> None:
    assert list(read_rows("".join(map(write_row, rows)))) == rows


@given(st.text(alphabet='",N\nUL\\', max_size=12))
def test_any_text_is_rows_or_an_error_that_says_where(text: str) -> None:
    try:
        rows = list(read_rows(text))
    except UndecodableError as error:
        assert str(error).startswith("offset ")
    else:
        assert "".join(map(write_row, rows)) == text


def test_row_is_quoted_throughout_but_for_null() -> None:
    assert write_row(["INSERT", "7", 'say "hi",\n\\', "", None, "NULL"]) == (
        '"INSERT","7","say ""hi"",\n\\","",NULL,"NULL"\n'
    )


@given(envelopes.changes())
def test_row_holds_event_sequence_and_columns(change: envelopes.Change) -> None:
    found = one(envelopes.streams(change))
    names = sorted({*found.keys, *(found.new_image or {})})
    (values,) = read_rows(csv_row(found, [Column(name, (name,)) for name in names]))
    image = found.keys if found.new_image is None else found.new_image
    assert values == [change.event_name, "1405400000000002063282832", *(column_text(image.get(n)) for n in names)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ({"NULL": True}, None),
        ({"S": ""}, ""),
        ({"N": "1E2"}, "100"),
        ({"BOOL": True}, "1"),
        ({"BOOL": False}, "0"),
        ({"B": "aGVsbG8="}, "aGVsbG8="),
        ({"SS": ["é"]}, '["é"]'),
        ({"M": {"a": {"L": [{"N": "1.50"}, {"NULL": True}]}}}, '{"a":[1.5,null]}'),
    ],
)
def test_column_text(value: Any, text: str | None) -> None:
    assert column_text(value) == text


@given(values())
def test_column_text_of_any_value_is_text(value: Any) -> None:
    text = column_text(value)
    assert (text is None) == ("NULL" in value)
    if text is not None and value.keys() & {"M", "L", "SS", "NS", "BS"}:
        json.loads(text)


def test_path_goes_on_into_the_document_that_a_string_holds() -> None:
    columns = {"n": "/doc/n", "x": "/doc/s/x/1", "all": "/doc/s", "doc": "/doc", "absent": "/doc/s/y", "far": "/id2/b"}
    assert row(record(), **columns)[2:] == ["1.5", "q", '{"x":["p","q"]}', record().new_image["doc"]["S"], None, None]  # type: ignore[index]
    with pytest.raises(UndecodableError, match="no JSON"):
        row(record(), n="/id/n")


def test_remove_has_its_key_alone() -> None:
    removed = replace(record(), event_name="REMOVE", new_image=None, old_image=record().new_image)
    assert row(removed, id="/id", hits="/hits") == ["REMOVE", str(1720742302233719 * 10**22), "a", None]


@pytest.mark.parametrize("pointer", ["", "/", "id", "/a~2", "/a~"])
def test_column_pointer_that_is_none_is_refused(pointer: str) -> None:
    with pytest.raises(ValueError, match="JSON Pointer"):
        Column.at("c", pointer)


def test_column_pointer_escapes() -> None:
    assert Column.at("c", "/a~1b/~0").path == ("a/b", "~")


def test_sequence_of_streams_is_theirs_and_must_fit() -> None:
    assert sequence_of(record(sequence_number="0" * 10 + "9" * 40)) == 10**40 - 1
    with pytest.raises(UndecodableError, match="more than 40 digits"):
        sequence_of(record(sequence_number="1" * 41))


def test_sequence_of_kinesis_orders_by_time_then_by_the_count_in_the_shard() -> None:
    first, second = record(kinesis_sequence=SEQUENCE), record(kinesis_sequence=NEXT_SEQUENCE)
    later = replace(first, changed_us=first.changed_us + 1)
    assert sequence_of(record()) < sequence_of(first) < sequence_of(second) < sequence_of(later)
    assert len(str(sequence_of(replace(second, changed_us=253_402_300_799_999_999)))) == 40
