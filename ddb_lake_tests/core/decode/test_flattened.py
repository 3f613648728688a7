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


@given(envelopes.changes(), st.sampled_from((envelopes.kds, envelopes.streams)), st.booleans())
def test_flattened_record_is_the_record_again_but_for_the_image_before_a_change(
    change: envelopes.Change, form: Any, arrived: bool
) -> None:
    record = one(envelopes.stamped(form(change)) if arrived else form(change))
    text = flatten(record)
    image = record.keys if record.new_image is None and record.old_image is None else None
    if text is None:
        assert RESERVED_NAMES & {*(record.new_image or record.old_image or image or {})}
        return
    assert "\n" not in text
    expected = replace(record, kind="flattened", old_image=None if record.new_image else record.old_image)
    assert canonical(back(text)) == canonical(expected)


def test_flattened_form() -> None:
    item: Any = {"id": {"S": "é"}, "n": {"N": "1E2"}, "m": {"M": {"a/b": {"NS": ["1"]}, "l": {"L": [{"B": "AA=="}]}}}}
    record = ChangeRecord("kds", "MODIFY", 1720742302233719, {"id": {"S": "é"}}, item, item, table="orders")
    text = flatten(record)
    assert text == (
        '{"Event":"MODIFY","ingestion_timestamp":"2024-07-11 23:58:22.233719","_ddb_lake":{"version":1,"keys":["id"],'
        '"types":{"/m/a~1b":"NS","/m/l/0":"B"},"tableName":"orders"},"id":"é","n":100,"m":{"a/b":[1],"l":["AA=="]}}'
    )


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


def test_attribute_named_like_our_details_is_another_transforms_attribute() -> None:
    obj = {"Event": "INSERT", "ingestion_timestamp": "2024-07-11 23:58:22", "id": "a", "_ddb_lake": {"keys": 1}}
    (located,) = read_object(json.dumps(obj).encode(), key_names=("id",))
    assert isinstance(located.outcome, ChangeRecord)
    assert set(located.outcome.new_image or {}) == {"id", "_ddb_lake"}
