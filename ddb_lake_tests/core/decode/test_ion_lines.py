"""Lines in Ion are written by the package's own writer, and by hand after AWS's example."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.decode.export_lines import read_full_line
from ddb_lake.core.decode.ion_lines import json_line
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.errors import UndecodableError
from ddb_lake.sandbox.ion import ion_line
from ddb_lake_tests.support.strategies import items


def test_documented_example_has_every_value() -> None:
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
    line = (
        b'$ion_1_0 {Item:{Authors:$dynamodb_SS::["Author1","Author2"],Dimensions:"8.5 x 11.0 x 1.5",'
        b'ISBN:"333-3333333333",Id:103.,InPublication:false,PageCount:6d2,Price:2d3,ProductCategory:"Book"}}'
    )
    assert read_full_line(json_line(line)) == {
        "Authors": {"SS": ["Author1", "Author2"]},
        "Dimensions": {"S": "8.5 x 11.0 x 1.5"},
        "ISBN": {"S": "333-3333333333"},
        "Id": {"N": "103"},
        "InPublication": {"BOOL": False},
        "PageCount": {"N": "600"},
        "Price": {"N": "2000"},
        "ProductCategory": {"S": "Book"},
    }


@given(items())
def test_every_item_is_the_same_in_ion(item: Item) -> None:
    read = read_full_line(json_line(ion_line({"Item": item}).encode()))
    assert canonical_json(read) == canonical_json(item)


@pytest.mark.parametrize("wrapped", [True, False])
def test_incremental_line_has_its_members(wrapped: bool) -> None:
    members = "Keys:{id:1.},Metadata:{WriteTimestampMicros:1680109764000000.},NewImage:{id:1.,v:null}"
    line = f"$ion_1_0 {{Record:{{{members}}}}}" if wrapped else f"$ion_1_0 {{{members}}}"
    assert json.loads(json_line(line.encode())) == {
        "Keys": {"id": {"N": "1"}},
        "Metadata": {"WriteTimestampMicros": {"N": "1680109764000000"}},
        "NewImage": {"id": {"N": "1"}, "v": {"NULL": True}},
    }


@pytest.mark.parametrize("length", [4095, 4096, 4097, 400_000])
def test_long_texts_are_read(length: int) -> None:
    item: Item = {"id": {"S": "é" * length}}
    assert read_full_line(json_line(ion_line({"Item": item}).encode())) == item


FAULTS = {
    "{Item:{}}": "does not begin with",
    "$ion_1_0": "expected an Ion struct",
    "$ion_1_0 {Item:5}": "Item: expected an Ion struct",
    "$ion_1_0 {Item:a::{}}": "Item: expected an Ion struct",
    "$ion_1_0 {Item:{}} {Item:{}}": "no Ion text with one value",
    '$ion_1_0 {Item:{a:"b"}': "no Ion text with one value",
    "$ion_1_0 {Item:{a:1.,a:2.}}": "Item: a name occurs twice",
    "$ion_1_0 {Item:{a:null.string}}": "a: an Ion null.string",
    "$ion_1_0 {Item:{a:[{b:1e0}]}}": "b: an Ion float",
    "$ion_1_0 {Item:{a:2026-01-01T}}": "a: an Ion timestamp",
    "$ion_1_0 {Item:{a:symbol}}": "a: an Ion symbol",
    '$ion_1_0 {Item:{a:{{"text"}}}}': "a: an Ion clob",
    "$ion_1_0 {Item:{a:(1.)}}": "a: an Ion sexp",
    "$ion_1_0 {Item:{a:b::1.}}": "a: an Ion annotation",
    "$ion_1_0 {Item:{a:$dynamodb_NS::{b:1.}}}": "a: an Ion annotation",
    "$ion_1_0 {Item:{a:$dynamodb_NS::b::[1.]}}": "a: an Ion annotation",
    '$ion_1_0 {Item:{a:$dynamodb_NS::[1.,"b"]}}': "a: a member of a set",
    "$ion_1_0 {Item:{a:1d1001}}": "a number beyond",
    "$ion_1_0 {Item:{a:" + "[" * 300 + "]" * 300 + "}}": "nested too deeply",
    "$ion_1_0 {Item:{a:" + "[" * 100_000: "no Ion text with one value",
}


@pytest.mark.parametrize("line", FAULTS)
def test_fault_is_named(line: str) -> None:
    with pytest.raises(UndecodableError, match=FAULTS[line]):
        json_line(line.encode())


@given(items(), st.data())
def test_damaged_line_is_an_item_or_an_error(item: Item, data: st.DataObject) -> None:
    line = bytearray(ion_line({"Item": item}).encode())
    at = data.draw(st.integers(0, len(line) - 1))
    line[at : at + data.draw(st.integers(1, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(UndecodableError):
        read_full_line(json_line(bytes(line)))
