"""Messages of S3 and EventBridge about new objects, and other messages that a queue may have."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.layout.s3_notifications import by_location, parse_message

keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


def s3_record(key: str, event: str = "ObjectCreated:Put", bucket: str = "landing") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-west-1",
        "eventName": event,
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/"), "size": 5, "eTag": "e"}},
    }


def direct(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": list(records)})


def bridged(key: str, detail_type: str = "Object Created", bucket: str = "landing") -> str:
    detail = {"version": "0", "bucket": {"name": bucket}, "object": {"key": key, "size": 5}, "reason": "PutObject"}
    return json.dumps({"version": "0", "source": "aws.s3", "detail-type": detail_type, "detail": detail})


def through_sns(body: str) -> str:
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:111122223333:t", "Message": body})


@given(keys)
def test_key_comes_back_as_it_is_whichever_way_the_message_took(key: str) -> None:
    for body in (direct(s3_record(key)), bridged(key), through_sns(direct(s3_record(key))), through_sns(bridged(key))):
        found = parse_message(body)
        assert (found.kind, found.uris) == ("created", (f"s3://landing/{key}",))


def test_known_encodings_are_undone_once_and_only_where_s3_encodes() -> None:
    encoded = direct({**s3_record("x"), "s3": {"bucket": {"name": "b"}, "object": {"key": "a+b/%C3%BC%252F%3D1"}}})
    assert parse_message(encoded).uris == ("s3://b/a b/ü%2F=1",)
    assert parse_message(bridged("a+b/%2F")).uris == ("s3://landing/a+b/%2F",)


@pytest.mark.parametrize(
    "event", ["ObjectCreated:CompleteMultipartUpload", "ObjectCreated:Copy", "s3:ObjectCreated:Post"]
)
def test_every_way_of_writing_counts_and_doubles_count_once(event: str) -> None:
    body = direct(s3_record("a", "ObjectCreated:Put"), s3_record("a", event), s3_record("b", event))
    assert parse_message(body).uris == ("s3://landing/a", "s3://landing/b")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "landing"}), "test"),
        (direct(s3_record("a", "ObjectRemoved:Delete")), "other"),
        (bridged("a", "Object Deleted"), "other"),
        (direct(), "other"),
        ("not JSON", "other"),
        ("[1, 2]", "other"),
        ("[" * 100_000, "other"),
        (through_sns(through_sns(through_sns(through_sns(bridged("a"))))), "other"),
        (bridged("a", bucket="b/c"), "other"),
    ],
)
def test_what_names_no_new_object_is_distinguished(body: str, kind: str) -> None:
    found = parse_message(body)
    assert (found.kind, found.uris) == (kind, ())


@given(json_values, st.sampled_from(["Records", "detail", "source", "detail-type", "Message", "Type", "Event"]))
def test_nothing_makes_it_raise(value: Any, name: str) -> None:
    for document in (
        value,
        {name: value},
        {"Records": [value, {"eventName": "ObjectCreated:Put", "s3": value}]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": value, "object": value}}]},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {"name": value}, "object": value}},
        {"Type": "Notification", "Message": value},
    ):
        assert parse_message(json.dumps(document)).kind in ("created", "test", "other")


@given(st.lists(keys, max_size=6))
def test_uris_go_to_the_places_they_lie_below_and_foreign_ones_nowhere(names: list[str]) -> None:
    places = ["s3://landing/orders/", "s3://landing/ord", "s3://other/"]
    ours = [f"s3://landing/orders/{name}" for name in names]
    uris = [*ours, "s3://landing/orders-old/x", "s3://others/x", "s3://landing/ord"]
    found = by_location([*uris, *uris], places)
    assert found["s3://landing/orders/"] == list(dict.fromkeys(ours))
    assert found["s3://landing/ord"] == ["s3://landing/ord"]
    assert found["s3://other/"] == []
