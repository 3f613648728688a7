from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.capture.dynamodb_copies import replica_of
from ddb_lake.core.values.attributes import canonical_item
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.errors import ConfigError, UndecodableError
from ddb_lake.lambdas import firehose_batch
from ddb_lake.lambdas.enrichment import Enrichment, Origin
from ddb_lake.lambdas.transform import MODES, Transform, handler
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.decoded_changes import CHANGE, one
from ddb_lake_tests.support.firehose_events import records_of, results, transformed
from ddb_lake_tests.support.strategies import storable

ITEM: Any = {"id": {"S": "1"}, "price": {"N": "1.50"}, "tags": {"SS": ["b", "a"]}}
ORIGIN = Origin("orders")


def enrichment(function: Callable[[Any, Origin], Any]) -> Enrichment:
    return Enrichment("shop.items:enrich", function)


def with_total(item: dict[str, Any], origin: Origin) -> dict[str, Any]:
    item["total"] = Decimal(len(item)) * 2
    item["blob"] = base64.b64encode(b"abc")  # base64 text itself: the form of Kinesis must not decode it once too often
    item["table"] = origin.table
    return item


def expected(image: Any) -> Any:
    if image is None:
        return None
    return canonical_item({
        **image,
        "total": {"N": str(len(image) * 2)},
        "blob": {"B": base64.b64encode(base64.b64encode(b"abc")).decode()},
        "table": {"S": "orders"},
    })  # fmt: skip


def storable_change(change: envelopes.Change) -> envelopes.Change:
    images = (image and storable(image) for image in (change.new_image, change.old_image))
    return replace(change, **dict(zip(("new_image", "old_image"), images, strict=True)))


def unique(change: envelopes.Change) -> bool:
    return not {"total", "blob", "table", "Event"} & {*(change.new_image or {}), *(change.old_image or {})}


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=30)
@given(
    change=envelopes.changes().map(storable_change).filter(unique),
    form=st.sampled_from((envelopes.kds, envelopes.streams)),
)
def test_both_images_are_enriched_and_all_else_stays(mode: Any, change: envelopes.Change, form: Any) -> None:
    transform = Transform(mode, enrichment=enrichment(with_total))
    process = lambda event, _: firehose_batch.process_batch(event, transform.process)  # noqa: E731
    ((result, line),) = transformed(process, envelopes.compact(form(change)))
    assert result == "Ok"
    (record,) = records_of(line)
    assert isinstance(record, ChangeRecord)
    new, old = expected(change.new_image), expected(change.old_image)
    delivered_old = old if mode == "envelope" or change.new_image is None else None
    assert (record.new_image and canonical_item(record.new_image)) == new
    assert (record.old_image and canonical_item(record.old_image)) == delivered_old
    captured = one(form(change))
    assert (record.event_id, record.changed_us, record.keys) == (captured.event_id, captured.changed_us, captured.keys)
    assert record.arrived_us is not None


def test_record_that_the_function_leaves_equal_keeps_its_texts() -> None:
    item: Any = {**CHANGE.keys, "n": {"N": "1.50E1"}, "s": {"SS": ["b", "a"]}, "m": {"M": {"x": {"N": "007"}}}}
    record = {**envelopes.kds(replace(CHANGE, new_image=item)), "other": 1.2345678901234567890123}
    text = envelopes.compact(record).replace(b"1.2345678901234567", b"1.23456789012345678901234567890E+2")
    transform = Transform(enrichment=enrichment(lambda item, _origin: {**item}))
    process = lambda event, _: firehose_batch.process_batch(event, transform.process)  # noqa: E731
    ((_, line),) = transformed(process, text)
    assert line.startswith(text[:-1])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda item, origin: item["secret"], r"raised KeyError at ddb_lake_tests.lambdas.test_enrichment:\d+"),
        (lambda item, origin: None, "returned NoneType: expected the item"),
        (lambda item, origin: {**item, "id": "2"}, "changed the key attribute 'id'"),
        (lambda item, origin: {}, "changed the key attribute 'id'"),
        (lambda item, origin: {**item, "x": 1.5}, "returned no item of DynamoDB: a float"),
        (lambda item, origin: {**item, "x": Decimal("NaN")}, "returned no item of DynamoDB: not the text"),
        (lambda item, origin: {**item, 5: "x"}, "returned no item of DynamoDB: an attribute name"),
        (lambda item, origin: {**item, "x": set()}, "returned no item of DynamoDB: a set is empty"),
        (lambda item: item, "raised TypeError"),
    ],
)
def test_failure_is_of_one_record_and_has_no_values(function: Any, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason) as failure:
        enrichment(function).apply(ITEM, ORIGIN, ["id"])
    assert "1.50" not in str(failure.value)


def test_equal_values_keep_their_text_and_the_argument_is_a_copy() -> None:
    def change(item: dict[str, Any], origin: Origin) -> dict[str, Any]:
        item["tags"].add("c")
        del item["price"]
        return {"price": Decimal("1.5"), "flag": True, **item}

    result = enrichment(change).apply(ITEM, ORIGIN, ["id"])
    assert result["price"] is ITEM["price"] and result["id"] is ITEM["id"]
    assert (result["flag"], result["tags"]) == ({"BOOL": True}, {"SS": ["a", "b", "c"]})
    assert ITEM["tags"] == {"SS": ["b", "a"]}


def test_one_and_true_are_different_values() -> None:
    enriched = enrichment(lambda item, origin: {"id": item["id"], "n": True})
    assert enriched.apply({"id": {"S": "1"}, "n": {"N": "1"}}, ORIGIN, ["id"])["n"] == {"BOOL": True}


MODULE = """
def half(item, origin):
    if item.get("state") == "broken":
        raise ValueError("a secret value")
    item["half"] = item["total"] / 2
    return item

NOTHING = 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"user_items_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_handler_delivers_the_others_and_fails_one(
    module: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DDB_LAKE_ENRICH", f"{module}:half")
    good: Any = {**CHANGE.keys, "total": {"N": "5"}}
    changes = [replace(CHANGE, new_image=image, old_image=None) for image in (good, {**good, "state": {"S": "broken"}})]
    data = [envelopes.compact(envelopes.kds(change)) for change in changes]
    delivered, failed = results(handler, envelopes.firehose_event(*data))
    (record,) = records_of(base64.b64decode(delivered["data"]))
    assert isinstance(record, ChangeRecord) and record.new_image is not None
    assert record.new_image["half"] == {"N": "2.5"}
    assert (failed["result"], base64.b64decode(failed["data"])) == ("ProcessingFailed", data[1])
    assert f"{module}:half raised ValueError at {module}:4" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("half", "expected package.module:function"),
        (":half", "expected package.module:function"),
        ("{}:", "expected package.module:function"),
        ("{}:none", "has no function 'none'"),
        ("{}:NOTHING", "has no function 'NOTHING'"),
        ("no_such_module_here:half", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_wrong_name_is_an_error(module: str, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Transform.from_environment({"DDB_LAKE_ENRICH": name.format(module)})


def kinesis(**payload: Any) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(payload).encode()).decode()
    return {"eventID": "shardId-000000000006:4980", "kinesis": {"sequenceNumber": "4980", "data": data}}


def with_page(item: dict[str, Any], origin: Origin) -> dict[str, Any]:
    return {**item, "pk": f"page#{item['page']}", "hits": item["hits"] + 1, "from": origin.sequence_number}


def test_payload_is_enriched_before_it_becomes_an_item() -> None:
    def apply(item: Any, sequence: str, shard: str, keys: Any) -> Any:
        assert shard == "shardId-000000000006"
        return enrichment(with_page).apply(item, Origin("t", sequence, shard), keys)

    replica = replica_of(kinesis(page="a", hits=0.1), ("pk",), apply)
    assert replica.key == {"pk": {"S": "page#a"}}  # a key that the payload lacks may be added
    assert (replica.item["hits"], replica.item["from"]) == ({"N": "1.1"}, {"S": "4980"})
    with pytest.raises(UndecodableError, match="changed the key attribute 'pk'"):
        replica_of(kinesis(page="a", hits=1, pk="own"), ("pk",), apply)
