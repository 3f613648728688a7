from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.core.values.json_schema import DRAFT, Rule, Validator
from ddb_lake.errors import ConfigError
from ddb_lake_tests.support.strategies import items, numbers

# The schema of the web analytics stream that AWS published, as draft-07.
WEB: dict[str, Any] = {
    "$schema": f"{DRAFT}#",
    "type": "object",
    "properties": {
        "Hits": {"type": "integer"},
        "device": {
            "type": "object",
            "properties": {"make": {"type": "string"}, "location": {"type": "object", "required": ["country"]}},
            "required": ["make", "location"],
        },
    },
    "required": ["Hits", "device"],
}
GOOD = {"Hits": 3, "device": {"make": "x", "location": {"country": "NO"}}}


def fault(schema: Any, item: Any, attribute: str | None = None) -> str | None:
    return Validator([Rule(schema, attribute)]).fault_of(item)


def document(value: Any) -> Any:
    return {"payload": {"S": value if isinstance(value, str) else json.dumps(value)}}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (GOOD, None),
        ({**GOOD, "Hits": 3.0}, None),  # an integer to draft-07
        ({**GOOD, "Hits": "secret"}, "schema: the document in payload fails `type` at Hits"),
        ({"Hits": 3}, "schema: the document in payload fails `required`"),
        ({"Hits": 3, "device": {"make": "secret", "location": {}}}, "fails `required` at device.location"),
        ("{secret", "schema: the attribute payload holds no JSON text"),
        ('{"Hits":1,"Hits":"secret"}', "schema: the attribute payload holds no JSON text"),
        ("[" * 5000, "schema: the attribute payload holds no JSON text"),
    ],
)
def test_document_in_an_attribute_is_validated(payload: Any, expected: str | None) -> None:
    found = fault(WEB, document(payload), "payload")
    assert found == expected or (expected and found and found.endswith(expected))


def test_document_may_be_a_map_and_must_be_there() -> None:
    assert fault({"required": ["a"]}, {"payload": {"M": {"a": {"N": "1"}}}}, "payload") is None
    assert fault({"required": ["a"]}, {"payload": {"B": "AA=="}}, "payload") == (
        "schema: the attribute payload is neither a string nor a map or list"
    )
    assert fault(True, {}, "payload") == "schema: there is no attribute payload, which should hold a document"


def test_all_rules_hold_and_a_remove_has_nothing_to_validate() -> None:
    validator = Validator([Rule({"required": ["id"]}), Rule(WEB, "payload")])
    keys: Any = {"id": {"S": "a"}}
    assert validator.fault_of({**keys, **document(GOOD)}) is None
    assert (validator.fault_of(document(GOOD)) or "").endswith("`required`")
    assert (validator.fault_of(keys) or "").startswith("schema: there is no attribute payload")
    assert validator.fault(ChangeRecord("kds", "REMOVE", 1, keys, None, keys)) is None
    assert validator.fault(ChangeRecord("kds", "INSERT", 1, keys, keys)) is not None


@pytest.mark.parametrize(
    ("schema", "number", "good"),
    [
        ({"minimum": 0.1}, "0.1", True),
        ({"minimum": 0.1}, "0.0999999999999999999999999999999999999", False),
        ({"maximum": 10}, "10.0000000000000000000000000000000000001", False),
        ({"const": 0.5}, "5E-1", True),
        ({"enum": [0.1, 2]}, "0.10", True),
        ({"multipleOf": 0.01}, "1.23", True),
        ({"multipleOf": 0.01}, "123456789012345678901234567890123456.78", True),
        ({"multipleOf": 0.01}, "12345678901234567890123456789012345.678", False),
        ({"multipleOf": 3}, "99999999999999999999999999999999999999", True),
        ({"multipleOf": 3}, "99999999999999999999999999999999999998", False),
        ({"type": "integer"}, "1E125", True),
        ({"type": "integer"}, "1.5", False),
        ({"exclusiveMaximum": 9007199254740993}, "9007199254740992", True),
        ({"exclusiveMaximum": 9007199254740993}, "9007199254740993", False),
    ],
)
def test_numbers_are_compared_exactly(schema: Any, number: str, good: bool) -> None:
    found = fault({"properties": {"n": schema}}, {"n": {"N": number}})
    assert (found is None) == good, found


@given(numbers(), st.sampled_from((1, 3, 0.01, 1e-130)), st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_can_be_checked(number: str, divisor: float, bound: float) -> None:
    schema = {"properties": {"n": {"multipleOf": divisor, "minimum": bound, "uniqueItems": True, "enum": [bound]}}}
    found = fault(schema, {"n": {"N": number}})
    assert found is None or "could not be checked" not in found


@given(items())
def test_any_item_is_an_object(item: Any) -> None:
    assert fault({"type": "object", "minProperties": len(item), "maxProperties": len(item)}, item) is None


@given(items(), st.text(max_size=8))
def test_any_string_as_a_document_never_raises(item: Any, text: str) -> None:
    found = fault(WEB, {**item, "payload": {"S": text}}, "payload")
    assert found is not None and found.startswith("schema: ")


def test_defaults_are_not_filled_in() -> None:
    schema = {"properties": {"a": {"default": 1}}, "required": ["a"]}
    assert fault(schema, {"b": {"S": ""}}) == "schema: the item fails `required`"


def test_references_within_the_schema_are_followed() -> None:
    schema = {"definitions": {"n": {"type": "number"}}, "properties": {"n": {"$ref": "#/definitions/n"}}}
    assert fault(schema, {"n": {"N": "1"}}) is None
    assert fault(schema, {"n": {"S": "1"}}) == "schema: the item fails `type` at n"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "only draft-07 is validated"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "only draft-07 is validated"),
        ({"$schema": 7}, "only draft-07 is validated"),
        ({"properties": {"a": {"items": {"$schema": "x"}}}}, "#/properties/a/items declares"),
        ({"properties": {"a": {"prefixItems": []}}}, "`prefixItems`, which draft-07 does not know"),
        ({"anyOf": [{"unevaluatedProperties": False}]}, "#/anyOf/0 has `unevaluatedProperties`"),
        ({"properties": {"a": {"$ref": "https://example.com/schema"}}}, "only references within the schema"),
        ({"$ref": "other.json"}, "only references within the schema"),
        ({"$ref": "#/definitions/none"}, "no draft-07 schema"),
        ({"type": "text"}, "no draft-07 schema"),
        ({"pattern": "("}, "no draft-07 schema"),
        ({"properties": []}, "no draft-07 schema"),
        ({"minimum": math.nan}, "no draft-07 schema"),
        ([], "# is no schema"),
        ("draft", "# is no schema"),
    ],
)
def test_what_is_no_draft_07_schema_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(ConfigError, match="JSON Schema: ") as raised:
        Validator([Rule(schema)])
    assert message in str(raised.value)


@pytest.mark.parametrize("declared", [DRAFT, f"{DRAFT}#", f"{DRAFT}#".replace("http:", "https:")])
def test_draft_07_is_taken_however_it_is_spelled(declared: str) -> None:
    assert fault({"$schema": declared, "properties": {"prefixItems": {}, "$ref": {"type": "string"}}}, {}) is None
