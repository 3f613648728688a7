from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.decode.flattened import RESERVED_NAMES, flatten
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.values.attributes import canonical_item
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.decoded_changes import CHANGE, one


def canonical(record: ChangeRecord) -> ChangeRecord:
    def form(item: Any) -> Any:
        return None if item is None else canonical_item(item)

    return replace(record, keys=form(record.keys), new_image=form(record.new_image), old_image=form(record.old_image))


def back(text: str) -> ChangeRecord:
    (located,) = read_object(text.encode())
    assert isinstance(located.outcome, ChangeRecord), located.outcome
    return located.outcome


@given(envelopes.changes(), st.sampled_from((envelopes.kds, envelopes.streams)), st.booleans(), st.booleans())
def test_flattened_record_is_the_record_again_but_for_the_image_before_a_change(
    change: envelopes.Change, form: Any, arrived: bool, nested: bool
) -> None:
    record = one(envelopes.stamped(form(change)) if arrived else form(change))
    text = flatten(record, nested=nested)
    image = record.keys if record.new_image is None and record.old_image is None else None
    if text is None:
        assert RESERVED_NAMES & {*(record.new_image or record.old_image or image or {})}
        return
    assert "\n" not in text
    assert nested or not any(isinstance(value, dict) for value in json.loads(text).values())
    expected = replace(record, kind="flattened", old_image=None if record.new_image else record.old_image)
    assert canonical(back(text)) == canonical(expected)


NESTED_NAMES = st.sampled_from(["a", "b", "a__b", "b__a", "a_", "_b", "__", "a__b__2", "~", "/", "~1", "Event"])
"""Names that collide when they are joined, and names that a pointer escapes."""

LEAVES = st.sampled_from(
    [
        {"S": "x"},
        {"N": "1"},
        {"NULL": True},
        {"B": "AA=="},
        {"BS": ["AA=="]},
        {"SS": ["x"]},
        {"L": []},
        {"L": [{"M": {"a": {"NS": ["1"]}}}, {"M": {}}]},
        {"M": {}},
    ]
)
MAPS = st.recursive(
    LEAVES, lambda m: st.dictionaries(NESTED_NAMES, m, max_size=4).map(lambda d: {"M": d}), max_leaves=8
)


@given(st.dictionaries(NESTED_NAMES.filter(lambda name: name not in RESERVED_NAMES), MAPS, max_size=5))
def test_names_that_collide_and_empty_maps_come_back(item: Any) -> None:
    item = {"id": {"S": "1"}, **item}
    record = ChangeRecord("kds", "INSERT", 1720742302233719, {"id": {"S": "1"}}, item, None)
    text = flatten(record)
    assert text is not None
    members = json.loads(text, object_pairs_hook=list)
    assert len({name for name, _ in members}) == len(members)
    assert canonical(back(text)).new_image == canonical_item(item)


def test_collision_keeps_the_attributes_name() -> None:
    item: Any = {"a__b": {"S": "1"}, "a": {"M": {"b": {"S": "2"}, "b__2": {"S": "3"}, "c": {"M": {}}}}}
    text = flatten(ChangeRecord("kds", "INSERT", 1720742302233719, {"a__b": {"S": "1"}}, item, None))
    assert text is not None
    members = json.loads(text)
    assert {name: members[name] for name in members if name.startswith("a_")} == {
        "a__b": "1", "a__b__2": "2", "a__b__2__2": "3", "a__c": None
    }  # fmt: skip


NESTED_FORM = (
    '{"Event":"MODIFY","ingestion_timestamp":"2024-07-11 23:58:22.233719","_ddb_lake":{"version":1,"keys":["id"],'
    '"types":{"/m/a~1b":"NS","/m/l/0":"B"},"tableName":"orders"},"id":"é","n":100,"m":{"a/b":[1],"l":["AA=="]}}'
)
ONE_LEVEL_FORM = (
    '{"Event":"MODIFY","ingestion_timestamp":"2024-07-11 23:58:22.233719",'
    r'"_ddb_lake":"{\"version\":2,\"keys\":[\"id\"],\"paths\":{\"m__a/b\":\"/m/a~1b\",\"m__l\":\"/m/l\"},'
    r'\"types\":{\"/m/a~1b\":\"NS\",\"/m/l/0\":\"B\"},\"tableName\":\"orders\"}",'
    '"id":"é","n":100,"m__a/b":[1],"m__l":["AA=="]}'
)


@pytest.mark.parametrize(("nested", "form"), [(False, ONE_LEVEL_FORM), (True, NESTED_FORM)])
def test_flattened_form(nested: bool, form: str) -> None:
    item: Any = {"id": {"S": "é"}, "n": {"N": "1E2"}, "m": {"M": {"a/b": {"NS": ["1"]}, "l": {"L": [{"B": "AA=="}]}}}}
    record = ChangeRecord("kds", "MODIFY", 1720742302233719, {"id": {"S": "é"}}, item, item, table="orders")
    assert flatten(record, nested=nested) == form
    assert canonical(back(form)).new_image == canonical_item(item)


def test_remove_without_an_old_image_has_its_key() -> None:
    record = replace(one(envelopes.kds(CHANGE)), event_name="REMOVE", new_image=None, old_image=None, ttl=True)
    text = flatten(record)
    assert text is not None
    assert back(text) == replace(record, kind="flattened")


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_item_with_a_reserved_name_is_not_flattened(name: str) -> None:
    record = one(envelopes.kds(CHANGE))
    assert flatten(replace(record, new_image={**record.keys, name: {"S": "x"}})) is None


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"version": 2}, "_ddb_lake.version: only 1 is known"),
        ({"keys": "id"}, "_ddb_lake.keys: no list"),
        ({"keys": []}, "a flattened record does not say what its key is"),
        ({"keys": ["other"]}, "a flattened record lacks"),
        ({"types": {"/tags/0": "SS"}}, "_ddb_lake.types: does not fit"),
        ({"types": {"/tags": "NS"}}, "_ddb_lake.types: does not fit"),
        ({"types": {"/tags": ["SS"]}}, "_ddb_lake.types: does not fit"),
        ({"types": {"/none/x": "B"}}, "_ddb_lake.types: does not fit"),
        ({"types": {"": "B"}}, "_ddb_lake.types: does not fit"),
        ({"types": []}, "_ddb_lake.types: no object"),
        ({"tableName": 5}, "_ddb_lake.tableName: no text"),
    ],
)
def test_details_that_are_damaged_are_rejected_by_name(details: Any, reason: str) -> None:
    obj = {"Event": "INSERT", "ingestion_timestamp": "2024-07-11 23:58:22", "id": "a", "tags": ["x"]}
    text = orjson.dumps({**obj, "_ddb_lake": {"version": 1, "keys": ["id"], **details}})
    (located,) = read_object(text)
    assert isinstance(located.outcome, Rejected)
    assert located.outcome.reason.startswith(reason)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"version": 1}, "_ddb_lake.version: only 2 is known"),
        ({"paths": []}, "_ddb_lake.paths: no object"),
        ({"paths": {"none": "/m/none"}}, "_ddb_lake.paths: does not fit"),
        ({"paths": {"a": "/m"}}, "_ddb_lake.paths: does not fit"),
        ({"paths": {"a": "/id/a"}}, "_ddb_lake.paths: does not fit"),
        ({"paths": {"a": "/m/a", "b": "/m/a"}}, "_ddb_lake.paths: does not fit"),
        ({"paths": {"a": "/m/a", "b": "/m/a/b"}}, "_ddb_lake.paths: does not fit"),
        ({"paths": {"a": ["m", "a"]}}, "_ddb_lake.paths: does not fit"),
        ({"types": {"/a": "M"}}, "_ddb_lake.types: does not fit"),
    ],
)
def test_details_of_one_level_that_are_damaged_are_rejected_by_name(details: Any, reason: str) -> None:
    obj = {"Event": "INSERT", "ingestion_timestamp": "2024-07-11 23:58:22", "id": "a", "a": 1, "b": 2}
    text = orjson.dumps({**obj, "_ddb_lake": json.dumps({"version": 2, "keys": ["id"], **details})})
    (located,) = read_object(text)
    assert isinstance(located.outcome, Rejected)
    assert located.outcome.reason.startswith(reason)


@pytest.mark.parametrize("value", [{"keys": 1}, "text", "{", '{"keys":1}', 5])
def test_attribute_named_like_our_details_is_another_transforms_attribute(value: Any) -> None:
    obj = {"Event": "INSERT", "ingestion_timestamp": "2024-07-11 23:58:22", "id": "a", "_ddb_lake": value}
    (located,) = read_object(json.dumps(obj).encode(), key_names=("id",))
    assert isinstance(located.outcome, ChangeRecord)
    assert set(located.outcome.new_image or {}) == {"id", "_ddb_lake"}
