"""The canonical form that verification compares with, against a model that shares nothing with it."""

from __future__ import annotations

import ast
import base64
import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_text
from ddb_lake.core.verify import equality
from ddb_lake.core.verify.equality import canonical, canonical_number, fingerprint
from ddb_lake_tests.support import strategies as ddb
from ddb_lake_tests.support.dynamodb_values import CASES

OURS = "ddb_lake"


def model(value: Any) -> Any:
    """A Python value that is equal to another's if DynamoDB regards the values as equal."""
    ((tag, content),) = value.items()
    if tag == "N":
        return tag, number(content)
    if tag == "B":
        return tag, base64.b64decode(content)
    if tag in ("SS", "NS", "BS"):
        return tag, frozenset(model({tag[0]: member}) for member in content)
    if tag == "L":
        return tag, [model(member) for member in content]
    if tag == "M":
        return tag, {name: model(member) for name, member in content.items()}
    return tag, content


def number(text: str) -> Fraction:
    digits, _, exponent = text.lower().partition("e")
    whole, _, fraction = digits.partition(".")
    return Fraction(int(whole + fraction or "0")) * Fraction(10) ** (int(exponent or 0) - len(fraction))


def text_of(item: Item, chance: random.Random) -> str:
    """JSON of an item, with white space and escapes as chance has it."""
    escaped = chance.random() < 0.5
    return json.dumps(item, ensure_ascii=escaped, separators=chance.choice(((",", ":"), (" , ", " : "))))


@given(ddb.items(), st.data(), st.randoms(use_true_random=False))
def test_canonical_forms_are_equal_for_respelled_items(item: Item, data: st.DataObject, chance: random.Random) -> None:
    other = data.draw(ddb.respelled(item))
    assert model({"M": item}) == model({"M": other})
    assert canonical(text_of(item, chance)) == canonical(text_of(other, chance).encode())


@given(ddb.values(), ddb.values())
def test_canonical_forms_of_two_values_are_equal_only_if_the_model_says_so(left: Any, right: Any) -> None:
    equal = model(left) == model(right)
    assert (canonical(json.dumps({"a": left})) == canonical(json.dumps({"a": right}))) == equal


@given(ddb.items(max_size=3), st.data())
def test_canonical_forms_distinguish_an_item_from_one_with_a_change(item: Item, data: st.DataObject) -> None:
    changed = dict(item)
    name = data.draw(st.sampled_from([*sorted(item), "new"]))
    if name in changed and data.draw(st.booleans()):
        del changed[name]
    else:
        changed[name] = data.draw(ddb.values())
    equal = model({"M": item}) == model({"M": changed})
    assert (canonical(json.dumps(item)) == canonical(json.dumps(changed))) == equal
    if not equal:
        assert fingerprint(json.dumps(item).encode()) != fingerprint(json.dumps(changed).encode())


@given(ddb.items(), st.randoms(use_true_random=False))
def test_fingerprint_regards_no_order_of_members_no_space_and_no_escapes(item: Item, chance: random.Random) -> None:
    names = list(item)
    chance.shuffle(names)
    other = {name: item[name] for name in names}
    assert fingerprint(text_of(item, chance).encode()) == fingerprint(text_of(other, chance).encode())


@given(ddb.spelled_numbers())
def test_numbers_have_the_spelling_of_their_value(spelled: tuple[str, str]) -> None:
    left, right = spelled
    assert canonical_number(left) == canonical_number(right)
    assert number(str(canonical_number(left))) == number(left) == number(right)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ('{"a":{"N":"1"}}', '{"a":{"N":"1.0"}}', True),
        ('{"a":{"N":"1E+2"}}', '{"a":{"N":"100"}}', True),
        ('{"a":{"N":"-0"}}', '{"a":{"N":"0.00"}}', True),
        ('{"a":{"N":"9.9E+125"}}', '{"a":{"N":"9.8E+125"}}', False),
        ('{"a":{"N":"1"}}', '{"a":{"S":"1"}}', False),
        ('{"a":{"N":"1"}}', '{"a":{"N":1}}', False),
        ('{"a":{"N":1}}', '{"a":{"N":1.0}}', False),
        ('{"a":{"SS":["a","b"]}}', '{"a":{"SS":["b","a"]}}', True),
        ('{"a":{"NS":["1","1.0"]}}', '{"a":{"NS":["1"]}}', True),
        ('{"a":{"L":[{"S":"a"},{"S":"b"}]}}', '{"a":{"L":[{"S":"b"},{"S":"a"}]}}', False),
        ('{"a":{"B":"AB=="}}', '{"a":{"B":"AA=="}}', True),
        ('{"a":{"B":"-_8="}}', '{"a":{"B":"+/8="}}', False),
        (r'{"a":{"S":"\u00e9\/"}}', '{"a":{"S":"é/"}}', True),
        ('{"a":{"NULL":false}}', '{"a":{"NULL":true}}', False),
        ('{"a":{"S":"x"},"a":{"S":"y"}}', '{"a":{"S":"y"}}', False),
        ('{"a":{"S":"y"},"a":{"S":"y"}}', '{"a":{"S":"y"}}', False),
        ('{"a":{"M":{"b":{"S":"y"},"b":{"S":"y"}}}}', '{"a":{"M":{"b":{"S":"y"}}}}', False),
        ('{"a":{"M":{}}}', "{}", False),
        ('{"a":{"S":""}}', "{}", False),
        ('{"a":{"SS":[]}}', '{"a":{"L":[]}}', False),
    ],
)
def test_what_is_equal(left: str, right: str, equal: bool) -> None:
    assert (canonical(left) == canonical(right)) is equal
    if not equal:
        assert fingerprint(left.encode()) != fingerprint(right.encode())


@pytest.mark.parametrize("text", [f'{{"a":{case.text}}}' for case in CASES])
def test_any_text_has_a_form_of_its_own(text: str) -> None:
    assert canonical(text) == canonical(text.encode())
    assert canonical(text) != canonical('{"a":{"S":"another"}}')
    assert fingerprint(text.encode()) == fingerprint(text.encode())


@given(ddb.keys())
def test_key_text_is_that_of_rows(key: Item) -> None:
    assert equality.key_text(key, list(key)) == key_text(key, list(key))


def test_key_text_names_the_attribute_that_is_no_key() -> None:
    with pytest.raises(ValueError, match="'b'"):
        equality.key_text({"a": {"S": "x"}, "b": {"BOOL": True}}, ["a", "b"])


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(equality.__file__).read_text())
    named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert named
    assert [name for name in named if name.split(".")[0] in ("", OURS)] == []
