from __future__ import annotations

import base64
import contextlib
import json
from decimal import Decimal, localcontext
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.attributes import MAX_DEPTH, canonical_item, canonical_value, check_item, check_value
from ddb_lake.core.values.conversions import from_boto, undouble_binary
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.core.values.numbers import NumberText, canonical_number
from ddb_lake.core.values.plain_json import from_plain
from ddb_lake.core.values.primary_key import check_keys, key_text
from ddb_lake.errors import UndecodableError
from ddb_lake_tests.support import strategies as ddb
from ddb_lake_tests.support.envelopes import doubled

# numbers


@given(ddb.spelled_numbers())
def test_canonical_number_any_spelling_gives_the_canonical_text(pair: tuple[str, str]) -> None:
    spelled, canonical = pair
    assert canonical_number(spelled) == canonical
    assert canonical_number(canonical) == canonical


@given(ddb.spelled_numbers())
def test_canonical_number_keeps_the_value_to_the_last_digit(pair: tuple[str, str]) -> None:
    with localcontext() as context:
        context.prec = 2000
        assert Decimal(canonical_number(pair[0])) == Decimal(pair[0])


@given(ddb.numbers(), ddb.numbers())
def test_canonical_number_differs_for_different_values(left: str, right: str) -> None:
    assert (canonical_number(left) == canonical_number(right)) == (Decimal(left) == Decimal(right))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"), ("-0", "0"), ("+0.00", "0"), ("0E999999999999999", "0"), (".5", "0.5"), ("5.", "5"),
        ("-.50", "-0.5"),
        ("007", "7"), ("1E3", "1000"), ("1.50e+1", "15"), ("12e-1", "1.2"), ("1E-130", "0." + "0" * 129 + "1"),
        ("9." + "9" * 37 + "E125", "9" * 38 + "0" * 88), ("-1E+126", "-1" + "0" * 126), ("1" * 39, "1" * 39),
    ],
)  # fmt: skip
def test_canonical_number_known_spellings(text: str, canonical: str) -> None:
    assert canonical_number(text) == canonical


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1\n", "+", "-", ".", "e5", "1e", "1e+", "--1", "0x10", "NaN", "Infinity", "-inf", "1_000", "1,5",
     "٣", "１", "1e1001", "1e-1001", "1e999999999999999999999", None, 1, 1.5, True, b"1"],
)  # fmt: skip
def test_canonical_number_no_finite_number_raises(text: object) -> None:
    with pytest.raises(UndecodableError):
        canonical_number(text)


# checking


@given(ddb.items())
def test_check_item_accepts_whatever_dynamodb_holds(item: Any) -> None:
    assert check_item(item) == any(f'"{tag}":' in json.dumps(_tags(item), separators=(",", ":")) for tag in ("B", "BS"))


def _tags(value: Any) -> Any:
    """The types of an item's values, nested as the values are, without names and payloads."""
    result = []
    for member in value.values() if isinstance(value, dict) else value:
        ((tag, payload),) = member.items()
        result.append({tag: _tags(payload) if tag in ("M", "L") else None})
    return result


@given(ddb.json_values())
def test_check_value_any_json_is_checked_or_raises_undecodable(value: Any) -> None:
    try:
        check_value(value)
    except UndecodableError:
        return
    canonical = canonical_value(value)
    assert canonical_value(canonical) is canonical
    assert check_value(canonical) in (True, False)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"a": {"S": 5}}, "S is not UTF-8 text at a"),
        ({"a": {"S": "\ud800"}}, "S is not UTF-8 text at a"),
        ({"\ud800": {"S": ""}}, "an attribute name that is not UTF-8 text at \\ud800"),
        ({"a": {"N": 5}}, "a number is written as text, found int at a"),
        ({"a": {"N": "x"}}, "not the text of a finite number at a"),
        ({"a": {"BOOL": "true"}}, "BOOL is neither true nor false at a"),
        ({"a": {"NULL": None}}, "NULL is neither true nor false at a"),
        ({"a": {"B": "AAEqQQ"}}, "binary that is not valid base64 at a"),
        ({"a": {"B": "é"}}, "binary that is not valid base64 at a"),
        ({"a": {"B": b"x"}}, "binary that is not base64 text at a"),
        ({"a": {"SS": "x"}}, "SS is not a list at a"),
        ({"a": {"BS": {}}}, "BS is not a list at a"),
        ({"a": {"SS": [1]}}, "SS holds what is not text at a"),
        ({"a": {"NS": ["1", "x"]}}, "not the text of a finite number at a"),
        ({"a": {"BS": ["x"]}}, "binary that is not valid base64 at a"),
        ({"a": {"L": {}}}, "L is not a list at a"),
        ({"a": {"M": []}}, "expected an object of attributes, found list at a"),
        ({"a": {"X": "x"}}, "unknown type tag at a"),
        ({"a": {}}, "expected an object with one type tag at a"),
        ({"a": {"S": "x", "N": "1"}}, "expected an object with one type tag at a"),
        ({"a": "x"}, "expected an object with one type tag at a"),
        ({"a": None}, "expected an object with one type tag at a"),
        (
            {"a": {"L": [{"S": ""}, {"M": {"b.c": {"L": [{"N": ""}]}}}]}},
            "not the text of a finite number at a[1].b.c[0]",
        ),
        ([], "expected an object of attributes, found list"),
    ],
)
def test_check_item_invalid_names_the_path_but_not_the_value(item: Any, message: str) -> None:
    with pytest.raises(UndecodableError) as raised:
        check_item(item)
    assert str(raised.value) == message


def nested(levels: int, tag: str) -> Any:
    value: Any = {"S": "leaf"}
    for _ in range(levels):
        value = {"L": [value]} if tag == "L" else {"M": {"a": value}}
    return value


@pytest.mark.parametrize("tag", ["L", "M"])
def test_check_value_nesting_up_to_the_limit_is_accepted_and_written(tag: str) -> None:
    deep = {"a": nested(MAX_DEPTH, tag)}
    assert check_item(deep) is False
    assert orjson.loads(canonical_json(deep)) == deep


@pytest.mark.parametrize("tag", ["L", "M"])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 5000])
def test_check_value_nesting_beyond_the_limit_raises_undecodable(levels: int, tag: str) -> None:
    with pytest.raises(UndecodableError, match="nested deeper than 100 levels"):
        check_value(nested(levels, tag))


@pytest.mark.parametrize(
    "keys",
    [{}, {"a": {"BOOL": True}}, {"a": {"SS": ["x"]}}, [], None, {"a": {"S": "x"}, "b": {"S": "x"}, "c": {"S": "x"}}],
)
def test_check_keys_no_primary_key_raises(keys: Any) -> None:
    with pytest.raises(UndecodableError):
        check_keys(keys)


# canonical form


@given(st.data(), ddb.items())
def test_canonical_item_respelled_is_equal(data: st.DataObject, item: Any) -> None:
    other = data.draw(ddb.respelled(item))
    assert canonical_item(other) == canonical_item(item)
    assert canonical_json(other) == canonical_json(item)


@given(ddb.items())
def test_canonical_item_of_canonical_is_the_same_object(item: Any) -> None:
    canonical = canonical_item(item)
    assert canonical_item(canonical) is canonical


@given(ddb.items(), ddb.items())
def test_canonical_json_equal_only_for_equal_items(left: Any, right: Any) -> None:
    assert (canonical_json(left) == canonical_json(right)) == (canonical_item(left) == canonical_item(right))


@given(ddb.items())
def test_canonical_item_of_canonical_spellings_only_orders_sets(item: Any) -> None:
    def ordered(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: sorted(v) if name in ("SS", "NS", "BS") and isinstance(v, list) else ordered(v)
                for name, v in value.items()
            }
        return [ordered(member) for member in value] if isinstance(value, list) else value

    assert canonical_item(item) == ordered(item)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ({"N": "1.0"}, {"N": "1"}),
        ({"NS": ["10", "1.0", "1", "9"]}, {"NS": ["1", "10", "9"]}),
        ({"SS": ["b", "a", "b"]}, {"SS": ["a", "b"]}),
        ({"BS": ["AAEqQQ==", "AAEqQQ=="]}, {"BS": ["AAEqQQ=="]}),
        ({"B": "AB=="}, {"B": "AA=="}),
        ({"NULL": False}, {"NULL": True}),
        ({"BOOL": False}, {"BOOL": False}),
        ({"L": [{"N": "+1"}, {"S": "+1"}]}, {"L": [{"N": "1"}, {"S": "+1"}]}),
        ({"M": {"a": {"M": {"b": {"N": "1E1"}}}}}, {"M": {"a": {"M": {"b": {"N": "10"}}}}}),
    ],
)
def test_canonical_value_known_values(value: Any, canonical: Any) -> None:
    before = json.dumps(value)
    assert canonical_value(value) == canonical
    assert orjson.loads(canonical_json({"x": value})) == {"x": canonical}
    assert json.dumps(value) == before


def test_canonical_json_text_that_looks_like_a_value_is_left_alone() -> None:
    item = {"a": {"S": '"N":"1.0","B":"AB==","SS":["b","a"],"NULL":false'}, "N": {"S": "1.0"}, "B": {"S": "AB=="}}
    assert orjson.loads(canonical_json(item)) == item


# conversions


def _as_boto(value: Any) -> Any:
    ((tag, payload),) = value.items()
    if tag == "B":
        return {"B": base64.b64decode(payload)}
    if tag == "BS":
        return {"BS": [base64.b64decode(member) for member in payload]}
    if tag == "M":
        return {"M": {name: _as_boto(member) for name, member in payload.items()}}
    if tag == "L":
        return {"L": [_as_boto(member) for member in payload]}
    return value


@given(ddb.values())
def test_from_boto_gives_back_the_json_form(value: Any) -> None:
    assert from_boto(_as_boto(value)) == value
    assert from_boto(value) == value


class BinaryLike:
    def __init__(self, value: bytes) -> None:
        self.value = value


@pytest.mark.parametrize(
    "content", [b"\x00\x01", bytearray(b"\x00\x01"), memoryview(b"\x00\x01"), BinaryLike(b"\x00\x01")]
)
def test_from_boto_any_bytes_like_content_is_encoded(content: Any) -> None:
    assert from_boto({"B": content}) == {"B": "AAE="}
    assert from_boto({"BS": [content]}) == {"BS": ["AAE="]}


def test_from_boto_sets_become_lists() -> None:
    assert from_boto({"SS": {"a"}}) == {"SS": ["a"]}
    assert from_boto({"NS": ("1", "2")}) == {"NS": ["1", "2"]}
    assert from_boto({"BS": {b"\x00\x01"}}) == {"BS": ["AAE="]}


@given(ddb.json_values())
def test_from_boto_and_from_plain_never_crash(value: Any) -> None:
    for convert in (from_boto, from_plain):
        with contextlib.suppress(UndecodableError):
            check_value(convert(value))


@given(ddb.items())
def test_undouble_binary_of_doubled_is_the_item(item: Any) -> None:
    assert undouble_binary(doubled(item)) == item


def test_undouble_binary_without_doubled_binary_is_the_same_object() -> None:
    item: Any = {"a": {"S": "x"}, "b": {"M": {"c": {"L": []}}}, "d": {"BS": ["", "AA=="]}}
    assert undouble_binary(item) is item


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"B": "RWdJSWV3PT0="}, {"B": "EgIIew=="}),  # from a record that AWS wrote
        ({"B": "EgIIew=="}, {"B": "EgIIew=="}),
        ({"B": ""}, {"B": ""}),
        ({"B": "QUI9PQ=="}, {"B": "QUI9PQ=="}),  # encodes AB==, which no encoder writes
        ({"BS": ["RWdJSWV3PT0=", "EgIIew=="]}, {"BS": ["RWdJSWV3PT0=", "EgIIew=="]}),
        ({"BS": ["RWdJSWV3PT0=", "QUFFPQ=="]}, {"BS": ["EgIIew==", "AAE="]}),
    ],
)
def test_undouble_binary_decides_by_decoding(value: Any, expected: Any) -> None:
    for wrapped, unwrapped in (
        (value, expected),
        ({"L": [value]}, {"L": [expected]}),
        ({"M": {"x": value}}, {"M": {"x": expected}}),
    ):
        assert undouble_binary({"a": wrapped}) == {"a": unwrapped}


def test_from_plain_keeps_every_digit_of_a_number_text() -> None:
    text = '{"a":12345678901234567890123456789012345678,"b":[1.10,true,null,"x",-0],"c":{}}'
    plain = json.loads(text, parse_int=NumberText, parse_float=NumberText)
    assert from_plain(plain) == {
        "M": {
            "a": {"N": "12345678901234567890123456789012345678"},
            "b": {"L": [{"N": "1.10"}, {"BOOL": True}, {"NULL": True}, {"S": "x"}, {"N": "-0"}]},
            "c": {"M": {}},
        }
    }


def test_from_plain_python_numbers() -> None:
    assert from_plain([1, 1.5, Decimal("0.10"), 10**40]) == {
        "L": [{"N": "1"}, {"N": "1.5"}, {"N": "0.10"}, {"N": "1" + "0" * 40}]
    }


@pytest.mark.parametrize("value", [object(), b"x", pytest.param(10**5000, id="5001 digits")])
def test_from_plain_no_json_value_raises(value: Any) -> None:
    with pytest.raises(UndecodableError):
        from_plain(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_from_plain_no_finite_number_does_not_pass_the_check(value: float) -> None:
    with pytest.raises(UndecodableError):
        check_value(from_plain(value))


# keys


def test_key_text_has_the_documented_form() -> None:
    keys: Any = {"b": {"N": "5.0"}, "a": {"S": "abc"}, "c": {"B": "AAE="}}
    assert key_text(keys, ("a", "b")) == "S3:abcN1:5"
    assert key_text(keys, ("c",)) == "B4:AAE="
    assert key_text({"a": {"S": "🦆é"}}, ("a",)) == "S2:🦆é"


@given(st.data(), ddb.keys())
def test_key_text_respelled_is_equal(data: st.DataObject, keys: Any) -> None:
    names = tuple(keys)
    assert key_text(data.draw(ddb.respelled(keys)), names) == key_text(keys, names)


@given(ddb.key_values(), ddb.key_values(), ddb.key_values(), ddb.key_values())
def test_key_text_is_injective(a: Any, b: Any, c: Any, d: Any) -> None:
    left, right = {"x": a, "y": b}, {"x": c, "y": d}
    assert (key_text(left, ("x", "y")) == key_text(right, ("x", "y"))) == (left == right)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"a": {"BOOL": True}},
        {"a": {"SS": ["x"]}},
        {"a": None},
        {"a": {}},
        {"a": {"N": "x"}},
        {"a": {"S": 1}},
        {"a": {"B": "x"}},
    ],
)
def test_key_text_missing_or_wrong_attribute_raises(keys: Any) -> None:
    with pytest.raises(UndecodableError):
        key_text(keys, ("a",))
